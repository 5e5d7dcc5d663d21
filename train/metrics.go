package train

// Metrics is one update's line in metrics.jsonl. All fields but those of Timing are
// the same, bit for bit, in every run of the same configuration on the same device.
// Losses are means over the update's micro-batches of the means of each, as gradients are.
type Metrics struct {
	Kind            string   `json:"kind"`   // "update"
	Update          int      `json:"update"` // from 1
	Epoch           float64  `json:"epoch"`  // passes over the examples, drawn so far
	Selecting       bool     `json:"selecting"`
	ScoredLoss      *float64 `json:"scored_loss"`        // of the samples drawn, at the exit layer; null where the exit head did not run
	KeptLoss        float64  `json:"kept_loss"`          // of the samples back-propagated, at the last layer
	Accuracy        float64  `json:"accuracy"`           // over the samples back-propagated; of masked tokens where there are any
	MLMLoss         *float64 `json:"mlm_loss,omitempty"` // of the samples back-propagated; KeptLoss is the sum of the two
	NSPLoss         *float64 `json:"nsp_loss,omitempty"`
	NSPAccuracy     *float64 `json:"nsp_accuracy,omitempty"`
	LearningRate    float64  `json:"lr"`
	GradNorm        float64  `json:"grad_norm"`                 // before clipping, of the loss itself; 0 where it overflowed
	LossScale       float64  `json:"loss_scale,omitempty"`      // with train.precision f16: what this update multiplied the loss by
	Skipped         bool     `json:"skipped,omitempty"`         // the scaled gradient overflowed: the weights stayed as they were
	SkippedUpdates  int      `json:"skipped_updates,omitempty"` // so far, this one included
	KeptShare       float64  `json:"kept_share"`                // of the samples drawn by this update
	SamplesDrawn    int      `json:"samples_drawn"`
	SamplesBackprop int      `json:"samples_backpropagated"`
	TokensDrawn     int      `json:"tokens_drawn"`
	TokensBackprop  int      `json:"tokens_backpropagated"`
	FLOPs           float64  `json:"flops"`       // of this update: necessary operations of what was back-propagated
	ScoreFLOPs      float64  `json:"score_flops"` // of this update: those of scoring that reuse does not save
	Timing
}

// Timing is the part of Metrics that differs from run to run.
type Timing struct {
	TokensPerSecond float64 `json:"tokens_per_second"` // drawn, over the training clock
	ScoreSeconds    float64 `json:"score_seconds"`     // of this update
	StepSeconds     float64 `json:"step_seconds"`      // of this update, scoring included
	TrainSeconds    float64 `json:"train_seconds"`     // the training clock since the first update; evaluation and checkpoints are not on it
}

// Evaluation is what held-out data say about a model. Dropout is off and nothing is
// selected. Of ClassEvaluation and MaskedEvaluation one is there.
type Evaluation struct {
	N        int     `json:"n"`    // labelled examples, or masked tokens
	Loss     float64 `json:"loss"` // mean cross-entropy; with next-sentence labels the sum of both means
	Accuracy float64 `json:"accuracy"`
	*ClassEvaluation
	*MaskedEvaluation
	Tokens  int     `json:"tokens"`
	Seconds float64 `json:"seconds"`
}

// MaskedEvaluation is the part of an Evaluation that running text has. The masks are the
// same in every evaluation.
type MaskedEvaluation struct {
	Sequences   int     `json:"sequences"`
	MLMLoss     float64 `json:"mlm_loss"`               // mean over the masked tokens, of which there are N
	NSPLoss     float64 `json:"nsp_loss,omitempty"`     // mean over the pairs
	NSPAccuracy float64 `json:"nsp_accuracy,omitempty"` // of the pairs
	NSPCount    int     `json:"nsp_pairs,omitempty"`
}

// ClassEvaluation is the part of an Evaluation that a labelled file has.
type ClassEvaluation struct {
	F1            float64   `json:"f1"`             // of the second label with two labels, else the mean over the labels
	MCC           float64   `json:"mcc"`            // Matthews correlation; Gorodkin's form for more than two labels
	Low           float64   `json:"accuracy_low"`   // 95% interval of the accuracy (Wilson)
	High          float64   `json:"accuracy_high"`  //
	Majority      string    `json:"majority_label"` // most frequent label of the file
	MajorityShare float64   `json:"majority_share"` // its share: the accuracy of always saying it
	Labels        []string  `json:"labels"`
	Confusion     [][]int64 `json:"confusion"` // [true][predicted]
}

// Summary is what a run came to. It is written to summary.json and as the last line
// of metrics.jsonl.
type Summary struct {
	Kind            string      `json:"kind"` // "summary"
	Run             string      `json:"run"`
	Updates         int         `json:"updates"`
	Planned         int         `json:"planned_updates"`
	Epochs          float64     `json:"epochs"`
	SamplesDrawn    int         `json:"samples_drawn"`
	SamplesBackprop int         `json:"samples_backpropagated"`
	TokensDrawn     int         `json:"tokens_drawn"`
	TokensBackprop  int         `json:"tokens_backpropagated"`
	FLOPs           float64     `json:"flops"`       // necessary operations of what was back-propagated
	ScoreFLOPs      float64     `json:"score_flops"` // those of scoring that reuse does not save
	FinalLoss       float64     `json:"final_kept_loss"`
	Metric          string      `json:"metric"`
	BestUpdate      int         `json:"best_update"` // 0: never evaluated
	Best            *Evaluation `json:"best,omitempty"`
	Last            *Evaluation `json:"last,omitempty"`
	StoppedEarly    bool        `json:"stopped_early"`
	LossScale       float64     `json:"loss_scale,omitempty"`      // with train.precision f16: of the next update, had there been one
	SkippedUpdates  int         `json:"skipped_updates,omitempty"` // whose gradient overflowed, so that they changed nothing
	Checkpoint      string      `json:"checkpoint"`                // whose weights were exported
	Model           string      `json:"model"`                     // the exported ONNX file
	TrainSeconds    float64     `json:"train_seconds"`
	ScoreSeconds    float64     `json:"score_seconds"`
	EvaluateSeconds float64     `json:"evaluate_seconds"`
}
