package cli

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"sift/atomicfile"
	"sift/bert"
	"sift/config"
	"sift/fault"
	"sift/onnx"
	"sift/safetensors"
	"sift/sifting"
)

func debugCommand(t *terminal) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "debug",
		GroupID: groupLook,
		Short:   "Write gradients and scores of one batch, to hold them against another framework.",
		Long: `Write the gradients or the SIFT scores of one batch, so that anyone can hold them against another
framework. The batch is a JSON file of padded arrays: input_ids, attention_mask, token_type_ids [S][L];
mlm_labels [S][L] with -100 for none and nsp_labels [S], or labels [S]. Dropout is off.`,
		Example: `  sift debug grads --model model.onnx --batch batch.json --out grads.safetensors
  sift debug scores --model model.onnx --batch batch.json --layer 1`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fault.New(fault.Usage, "sift debug %s: unknown; grads and scores are known", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(debugGradsCommand(t), debugScoresCommand(t))
	return cmd
}

// A loaded model with a batch for it, on an open device. Close it.
type loaded struct {
	file    *onnx.File
	match   *onnx.Match
	model   *bert.Model
	batch   *bert.Batch
	stepper *sifting.Stepper
	close   func()
}

// load opens a model and a batch and puts both on the device the flags name.
func load(cmd *cobra.Command, modelPath, batchPath string, nonFinite bool, options sifting.Options) (*loaded, error) {
	if modelPath == "" || batchPath == "" {
		return nil, fault.New(fault.Usage, "--model and --batch are needed; see %s --help", cmd.CommandPath())
	}
	r, err := resolve(cmd.Flags(), config.Default())
	if err != nil {
		return nil, err
	}
	l := &loaded{}
	if l.file, l.match, err = openModel(modelPath, nonFinite); err != nil {
		return nil, err
	}
	ok := false
	l.close = func() { l.file.Close() }
	defer func() {
		if !ok {
			l.close()
		}
	}()
	var objective bert.Objective
	if l.batch, objective, err = readBatch(batchPath, l.match.Config); err != nil {
		return nil, err
	}
	if objective == (bert.Objective{}) {
		return nil, fault.New(fault.Data, "%s: no labels: mlm_labels, nsp_labels or labels is needed", batchPath)
	}
	weights, err := onnx.Load(l.match)
	if err != nil {
		return nil, err
	}
	o, err := openDevice(r.Device, deviceUse{})
	if err != nil {
		return nil, err
	}
	l.close = func() { o.device.Close(); l.file.Close() }
	if l.model, err = bert.NewModel(o.device, l.match.Config, l.batch.Limits()); err != nil {
		return nil, err
	}
	if err := l.model.SetWeights(weights); err != nil {
		return nil, err
	}
	if err := l.model.SetObjective(objective); err != nil {
		return nil, err
	}
	options.MicroBatch = l.batch.Seqs
	if err := options.Validate(l.match.Config, objective); err != nil {
		return nil, err
	}
	if l.stepper, err = sifting.NewStepper(l.model, options); err != nil {
		return nil, err
	}
	ok = true
	return l, nil
}

func debugGradsCommand(t *terminal) *cobra.Command {
	var modelPath, batchPath, out string
	var nonFinite bool
	cmd := &cobra.Command{
		Use:   "grads --model M.onnx --batch B.json --out G.safetensors",
		Short: "Write the gradient of every parameter for one batch.",
		Long: `Write the gradient of every parameter for one batch as safetensors, and print the losses. Tensors
carry the initializer names and the layout of the model file; the metadata maps each name to its role.`,
		Example: `  sift debug grads --model model.onnx --batch batch.json --out grads.safetensors
  sift debug grads --model model.onnx --batch batch.json --out grads.safetensors --device reference`,
		Args: noArguments,
	}
	cmd.Flags().StringVar(&modelPath, "model", "", "ONNX `file`")
	cmd.Flags().StringVar(&batchPath, "batch", "", "JSON `file` of padded arrays")
	cmd.Flags().StringVar(&out, "out", "", "safetensors `file` to write")
	cmd.Flags().BoolVar(&nonFinite, "allow-non-finite", false, "accept weights that are NaN or infinite")
	addDeviceFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out == "" {
			return fault.New(fault.Usage, "--out is needed; see sift debug grads --help")
		}
		for _, input := range []string{modelPath, batchPath} {
			if sameFile(input, out) {
				return fault.New(fault.Usage, "--out: %s is an input", out)
			}
		}
		l, err := load(cmd, modelPath, batchPath, nonFinite, sifting.Options{})
		if err != nil {
			return err
		}
		defer l.close()
		result, err := l.stepper.Step(l.batch, sifting.StepArgs{})
		if err != nil {
			return err
		}
		grads, err := l.model.Gradients()
		if err != nil {
			return err
		}
		file, err := gradientFile(l.match, grads)
		if err != nil {
			return err
		}
		if err := atomicfile.AtomicWrite(out, func(w io.Writer) error { return safetensors.Write(w, file) }); err != nil {
			return err
		}
		losses := struct {
			Loss    float64 `json:"loss"`
			MLMLoss float64 `json:"mlm_loss"`
			NSPLoss float64 `json:"nsp_loss"`
			Class   float64 `json:"classification_loss"`
			Tensors int     `json:"tensors"`
			Out     string  `json:"out"`
		}{result.Loss, result.MLMLoss, result.NSPLoss, result.ClassLoss, len(file.Tensors), out}
		if t.json {
			return t.object(losses)
		}
		return t.print("loss %.9g  mlm_loss %.9g  nsp_loss %.9g  classification_loss %.9g\n%d gradients in %s\n",
			losses.Loss, losses.MLMLoss, losses.NSPLoss, losses.Class, losses.Tensors, out)
	}
	return cmd
}

// gradientFile lays gradients out as the model file stores the parameters, each under
// its initializer's name with its role in the metadata. Where several roles share one
// initializer (torch merges equal tensors when it exports), the sum stands under the
// initializer's name, with a JSON list of roles, and each role's own gradient beside it
// under the role's name.
func gradientFile(m *onnx.Match, grads bert.Weights) (safetensors.File, error) {
	file := safetensors.File{Tensors: map[string]safetensors.Tensor{}, Metadata: map[string]string{"format": "sift gradients"}}
	roles := map[string][]string{}
	own := map[string]safetensors.Tensor{}
	params, err := bert.Params(m.Config)
	if err != nil {
		return file, err
	}
	for _, p := range params {
		g, ok := grads[p.Role]
		if !ok {
			continue
		}
		name, dims, data, err := m.InFileLayout(p.Role, g)
		if err != nil {
			return file, err
		}
		shape := make([]int, len(dims))
		for i, d := range dims {
			shape[i] = int(d)
		}
		own[p.Role] = safetensors.Tensor{Shape: shape, F32: data}
		sum, shared := file.Tensors[name]
		if !shared {
			sum = safetensors.Tensor{Shape: shape, F32: make([]float32, len(data))}
			file.Tensors[name] = sum
		}
		for i, v := range data {
			sum.F32[i] += v
		}
		roles[name] = append(roles[name], p.Role)
	}
	for name, r := range roles {
		if len(r) == 1 {
			file.Metadata[name] = r[0]
			continue
		}
		text, err := json.Marshal(r)
		if err != nil {
			return file, fault.New(fault.Internal, "%w", err)
		}
		file.Metadata[name] = string(text)
		for _, role := range r {
			if _, taken := file.Tensors[role]; !taken {
				file.Tensors[role], file.Metadata[role] = own[role], role
			}
		}
	}
	return file, nil
}

func debugScoresCommand(t *terminal) *cobra.Command {
	var modelPath, batchPath, score string
	var layer int
	var keep float64
	cmd := &cobra.Command{
		Use:   "scores --model M.onnx --batch B.json --layer K",
		Short: "Print loss and entropy per sequence at an exit layer, and who would be kept.",
		Long: `Print each sequence's loss and entropy when the model's own head is applied after layer K, and
who would be kept. Dropout is off.`,
		Example: `  sift debug scores --model model.onnx --batch batch.json --layer 1
  sift debug scores --model model.onnx --batch batch.json --layer 3 --score entropy --keep 0.25 --json`,
		Args: noArguments,
	}
	cmd.Flags().StringVar(&modelPath, "model", "", "ONNX `file`")
	cmd.Flags().StringVar(&batchPath, "batch", "", "JSON `file` of padded arrays")
	cmd.Flags().IntVar(&layer, "layer", 1, "exit `layer`; 0 is the embeddings")
	cmd.Flags().StringVar(&score, "score", "loss", "what ranks: loss or entropy")
	cmd.Flags().Float64Var(&keep, "keep", 0.5, "`share` kept")
	addDeviceFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		options := sifting.Options{ExitLayer: layer, Keep: keep, Score: sifting.Loss, ScoringDropout: true}
		switch score {
		case "loss":
		case "entropy":
			options.Score = sifting.Entropy
		default:
			return fault.New(fault.Usage, "--score: %q: must be loss or entropy", score)
		}
		l, err := load(cmd, modelPath, batchPath, false, options)
		if err != nil {
			return err
		}
		defer l.close()
		scores, err := l.stepper.ScoresAt(l.batch, layer)
		if err != nil {
			return err
		}
		kept, err := l.stepper.Select(scores, l.batch.SampleID)
		if err != nil {
			return err
		}
		isKept := map[int]bool{}
		for _, s := range kept {
			isKept[s] = true
		}
		type row struct {
			Sequence int     `json:"sequence"`
			Loss     float64 `json:"loss"`
			Entropy  float64 `json:"entropy"`
			Labelled int     `json:"labelled"`
			Kept     bool    `json:"kept"`
		}
		rows := make([]row, len(scores))
		for s, x := range scores {
			rows[s] = row{s, x.Loss, x.Entropy, x.Labelled, isKept[s]}
		}
		if t.json {
			return t.object(map[string]any{"layer": layer, "score": score, "keep": keep, "sequences": rows, "kept": kept})
		}
		for _, r := range rows {
			mark := ""
			if r.Kept {
				mark = "  kept"
			}
			if err := t.print("sequence %3d  loss %.6f  entropy %.6f  over %d labels%s\n", r.Sequence, r.Loss, r.Entropy, r.Labelled, mark); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}
