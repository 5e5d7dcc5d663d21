"""Runs a PyTorch peer with the environment in which PyTorch is fast on this machine.

Debian's torch multiplies with whatever libblas is: the reference BLAS (a hundred times too slow) unless
libopenblas0-pthread is installed; and OpenBLAS 0.3.21 takes processors that it does not know for a Prescott.
So the core types are tried, and the fastest is taken.
"""

import os
import subprocess
import sys

MARK = "PEER_TUNED_GFLOPS"
CORES = (None, "SkylakeX", "Zen", "Haswell")
ALWAYS = {"OMP_WAIT_POLICY": "PASSIVE", "MALLOC_MMAP_THRESHOLD_": "4294967296",
          "MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_TOP_PAD_": "1073741824"}
PROBE = """
import time, torch
a, b, best = torch.ones(512, 768), torch.ones(768, 1536), 0
a @ b
for _ in range(8):
    start = time.perf_counter()
    a @ b
    best = max(best, 2 * 512 * 768 * 1536 / (time.perf_counter() - start) / 1e9)
print(best)
"""


def environment(core):
    """The process's environment with the tuned settings and one OpenBLAS core type."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    env.update(ALWAYS)
    if core:
        env["OPENBLAS_CORETYPE"] = core
    return env


def probe(core):
    """GFLOP/s of torch's matrix product under a core type; 0 if it crashes."""
    got = subprocess.run([sys.executable, "-c", PROBE], env=environment(core), capture_output=True, text=True)
    return float(got.stdout) if got.returncode == 0 else 0.0


def restart_tuned():
    """Starts this script again, in its place, in the fastest environment. Call it before importing torch;
    in the restarted process it returns {"openblas_core": ..., "gemm_gflops": ...}."""
    if MARK in os.environ:
        gflops = float(os.environ[MARK])
        if gflops < 30:
            print(f"torch multiplies at {gflops:.0f} GFLOP/s only: no peer. Install libopenblas0-pthread.",
                  file=sys.stderr)
        return {"openblas_core": os.environ.get("OPENBLAS_CORETYPE", "its own choice"), "gemm_gflops": round(gflops)}
    speed = {core: probe(core) for core in CORES}
    best = max(speed, key=speed.get)
    env = environment(best)
    env[MARK] = str(speed[best])
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.argv], env)
