// Runs an ONNX model on given inputs in ONNX Runtime (CPU) and compares its outputs
// with expected ones:
//
//   node check.mjs MODEL.onnx CASES.json [MODEL.onnx CASES.json ...]
//
// CASES.json: {"atol": 1e-4, "rtol": 1e-4, "cases": [{
//   "name": "...",
//   "inputs":  {"input_ids": {"type": "int64", "dims": [2, 7], "data": [...]}},
//   "outputs": {"logits": {"dims": [2, 3], "data": [...], "rows": [0, 1, ...]}}}]}
//
// data is flat and row-major; NaN and infinities are strings. With rows, only these rows
// of the output, seen as rows of its last axis, are compared (the others belong to
// padding), and data holds only them. An element agrees when |got - want| <= atol + rtol |want|.
//
// Prints one JSON line per case, in order. Exit code: 0 all agree, 1 some do not, 70 on trouble.
import { readFileSync } from 'node:fs';
import ort from 'onnxruntime-node';

function tensor({ type, dims, data }) {
  switch (type) {
    case 'int64': return new ort.Tensor('int64', BigInt64Array.from(data, BigInt), dims);
    case 'int32': return new ort.Tensor('int32', Int32Array.from(data), dims);
    case 'bool': return new ort.Tensor('bool', Uint8Array.from(data), dims);
    case 'float32': return new ort.Tensor('float32', Float32Array.from(data, Number), dims);
    case 'float64': return new ort.Tensor('float64', Float64Array.from(data, Number), dims);
  }
  throw new Error(`inputs of type ${type} are not supported`);
}

// float16 outputs come as bits.
function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function compare(got, want, atol, rtol) {
  const result = { elements: 0, max_abs: 0, max_rel: 0, bad: 0 };
  if (JSON.stringify(got.dims) !== JSON.stringify(want.dims)) {
    return { ...result, bad: 1, cause: `shape [${got.dims}], want [${want.dims}]` };
  }
  let values = got.data;
  if (got.type === 'float16' && values instanceof Uint16Array) values = Float64Array.from(values, fromHalf);
  const width = want.dims.length ? want.dims[want.dims.length - 1] : 1;
  const size = values.length;
  const rows = want.rows ?? Array.from({ length: width ? size / width : 0 }, (_, i) => i);
  if (want.data.length !== rows.length * width) {
    return { ...result, bad: 1, cause: `${want.data.length} expected values for ${rows.length} rows of ${width}` };
  }
  rows.forEach((row, r) => {
    for (let i = 0; i < width; i++) {
      const g = Number(values[row * width + i]), w = Number(want.data[r * width + i]);
      result.elements++;
      if (Object.is(g, w) || g === w) continue;
      const d = Math.abs(g - w);
      if (!(d <= result.max_abs)) result.max_abs = d;
      if (w !== 0 && !(d / Math.abs(w) <= result.max_rel)) result.max_rel = d / Math.abs(w);
      if (!(d <= atol + rtol * Math.abs(w)) && result.bad++ === 0) {
        result.cause = `row ${row}, element ${i}: ${g}, want ${w}`;
      }
    }
  });
  // JSON has no NaN and infinity.
  for (const k of ['max_abs', 'max_rel']) if (!Number.isFinite(result[k])) result[k] = Number.MAX_VALUE;
  return result;
}

async function check(model, file) {
  const { cases, atol, rtol } = JSON.parse(readFileSync(file, 'utf8'));
  if (cases.length === 0) throw new Error(`${file}: no cases`);
  // logSeverityLevel 3: errors only; ONNX Runtime warns about unused initializers.
  const session = await ort.InferenceSession.create(model, { logSeverityLevel: 3, intraOpNumThreads: 2 });
  let agree = true;
  for (const c of cases) {
    const feeds = Object.fromEntries(Object.entries(c.inputs).map(([name, t]) => [name, tensor(t)]));
    const got = await session.run(feeds, Object.keys(c.outputs));
    const outputs = {};
    for (const [name, want] of Object.entries(c.outputs)) outputs[name] = compare(got[name], want, atol, rtol);
    const ok = Object.values(outputs).every((o) => o.bad === 0);
    agree &&= ok;
    console.log(JSON.stringify({ case: c.name, ok, outputs }));
  }
  await session.release();
  return agree;
}

async function main(args) {
  if (args.length === 0 || args.length % 2) throw new Error('usage: node check.mjs MODEL.onnx CASES.json ...');
  let agree = true;
  for (let i = 0; i < args.length; i += 2) agree = (await check(args[i], args[i + 1])) && agree;
  return agree ? 0 : 1;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (e) {
  console.error(`error: ${e.message}`);
  process.exitCode = 70;
}
