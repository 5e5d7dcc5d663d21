package train

import "sift/bert"

// header is everything a run continues from except the numbers of the model. Nothing
// random is in it: dropout, order and selection are functions of seed and position.
type header struct {
	Program  string       `json:"program"`  // version that wrote it
	Update   int          `json:"update"`   // updates done
	Position int          `json:"position"` // samples drawn: where the stream continues
	Totals   totals       `json:"totals"`
	Progress progress     `json:"progress"`
	Scale    *lossScale   `json:"loss_scale,omitempty"` // with train.precision f16
	Logs     logSizes     `json:"logs"`
	Inputs   inputs       `json:"inputs"`
	Config   string       `json:"config"` // the resolved configuration, YAML
	Device   deviceRecord `json:"device"`
	Model    bert.Config  `json:"model"`
	Labels   []string     `json:"labels"`
	Params   []bert.Param `json:"params"` // place of each parameter in the sections
	Float    string       `json:"float"`  // element type of the sections
	Sections []section    `json:"sections"`
}

// totals count from the first update.
type totals struct {
	Backprop        int     `json:"samples_backpropagated"`
	TokensDrawn     int     `json:"tokens_drawn"`
	TokensBackprop  int     `json:"tokens_backpropagated"`
	TrainSeconds    float64 `json:"train_seconds"`
	ScoreSeconds    float64 `json:"score_seconds"`
	EvaluateSeconds float64 `json:"evaluate_seconds"`
	LastLoss        float64 `json:"last_loss"`
	FLOPs           float64 `json:"flops"`
	ScoreFLOPs      float64 `json:"score_flops"`
}

// progress is what validation has found.
type progress struct {
	EvaluatedAt int         `json:"evaluated_at"` // update of the last evaluation; 0: none
	Last        *Evaluation `json:"last"`
	BestAt      int         `json:"best_at"` // 0: none
	Best        *Evaluation `json:"best"`
	WithoutGain int         `json:"without_gain"` // evaluations since the best
}

// logSizes are the bytes of the line files at the time of the checkpoint.
type logSizes struct {
	Metrics   int64 `json:"metrics"`
	Selection int64 `json:"selection"`
}

// inputs are the SHA-256 of what the run reads, "" where it reads nothing.
type inputs struct {
	Train     string `json:"train"`
	Valid     string `json:"valid"`
	Model     string `json:"model"`
	Tokenizer string `json:"tokenizer"`
	Replay    string `json:"replay"`
}

type section struct {
	Name   string `json:"name"` // params, m, v
	Offset int64  `json:"offset"`
	Count  int64  `json:"count"` // elements
}
