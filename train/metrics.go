package train

// Metrics is one update's line in metrics.jsonl. All fields but those of Timing are
// the same, bit for bit, in every run of the same configuration on the same device.
// Losses are means over the update's micro-batches of the means of each, as gradients are.
type Metrics struct {
	Kind            string   `json:"kind"`   // "update"
	Update          int      `json:"update"` // from 1
	Epoch           float64  `json:"epoch"`  // passes over the examples, drawn so far
	Selecting       bool     `json:"selecting"`
	ScoredLoss      *float64 `json:"scored_loss"` // of the samples drawn, at the exit layer; null where the exit head did not run
	KeptLoss        float64  `json:"kept_loss"`   // of the samples back-propagated, at the last layer
	Accuracy        float64  `json:"accuracy"`    // over the samples back-propagated
	LearningRate    float64  `json:"lr"`
	GradNorm        float64  `json:"grad_norm"`  // before clipping
	KeptShare       float64  `json:"kept_share"` // of the samples drawn by this update
	SamplesDrawn    int      `json:"samples_drawn"`
	SamplesBackprop int      `json:"samples_backpropagated"`
	TokensDrawn     int      `json:"tokens_drawn"`
	TokensBackprop  int      `json:"tokens_backpropagated"`
	Timing
}

// Timing is the part of Metrics that differs from run to run.
type Timing struct {
	TokensPerSecond float64 `json:"tokens_per_second"` // drawn, over the training clock
	ScoreSeconds    float64 `json:"score_seconds"`     // of this update
	StepSeconds     float64 `json:"step_seconds"`      // of this update, scoring included
	TrainSeconds    float64 `json:"train_seconds"`     // the training clock since the first update; evaluation and checkpoints are not on it
}

// Evaluation is what a labelled file says about a model. Dropout is off and nothing is
// selected.
type Evaluation struct {
	N             int       `json:"n"`
	Loss          float64   `json:"loss"` // mean cross-entropy
	Accuracy      float64   `json:"accuracy"`
	F1            float64   `json:"f1"`             // of the second label with two labels, else the mean over the labels
	MCC           float64   `json:"mcc"`            // Matthews correlation; Gorodkin's form for more than two labels
	Majority      string    `json:"majority_label"` // most frequent label of the file
	MajorityShare float64   `json:"majority_share"` // its share: the accuracy of always saying it
	Labels        []string  `json:"labels"`
	Confusion     [][]int64 `json:"confusion"` // [true][predicted]
	Tokens        int       `json:"tokens"`
	Seconds       float64   `json:"seconds"`
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
	FinalLoss       float64     `json:"final_kept_loss"`
	Metric          string      `json:"metric"`
	BestUpdate      int         `json:"best_update"` // 0: never evaluated
	Best            *Evaluation `json:"best,omitempty"`
	Last            *Evaluation `json:"last,omitempty"`
	StoppedEarly    bool        `json:"stopped_early"`
	Checkpoint      string      `json:"checkpoint"` // whose weights were exported
	Model           string      `json:"model"`      // the exported ONNX file
	TrainSeconds    float64     `json:"train_seconds"`
	ScoreSeconds    float64     `json:"score_seconds"`
	EvaluateSeconds float64     `json:"evaluate_seconds"`
}
