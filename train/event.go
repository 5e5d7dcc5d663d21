package train

import "time"

// Event is something a caller may want to show while a run goes on: one of *Planned,
// *Updated, *Evaluating, *Evaluated, *Saved and *Notice. Events arrive on the goroutine that called
// Finetune, in order; a slow receiver slows the run down.
type Event interface{ event() }

// Planned comes once, before the first update.
type Planned struct {
	Updates     int     // of the whole run
	Epochs      float64 // passes over the examples that these updates draw
	Drawn       int     // samples drawn by the whole run
	Kept        int     // samples back-propagated by the whole run
	Done        int     // updates already done, when a run is resumed
	Examples    int     // of an epoch
	Tokens      int     // of an epoch; special tokens included where examples are labelled
	Cut         int     // labelled examples cut to task.max_length
	Labels      []string
	Documents   int // of running text to train on; 0 with labelled examples
	Held        int // documents held out
	Pairs       bool
	Validated   int   // examples to validate on
	MemoryBytes int64 // device memory: parameters, gradients, moments and workspaces
}

// Updated comes after each update. Metrics is the line written to metrics.jsonl.
type Updated struct {
	Metrics
	Updates   int           // of the whole run
	Remaining time.Duration // of training, at the pace so far; 0 if unknown
}

// Evaluating comes while a file is evaluated, after each batch.
type Evaluating struct{ Done, Of int }

// Evaluated comes after the validation file has been evaluated.
type Evaluated struct {
	Update int
	Evaluation
	Best bool // better than every evaluation before
}

// Saved comes after a checkpoint has its final name.
type Saved struct {
	Update int
	Path   string
}

// Notice is a sentence a user should see: a damaged checkpoint passed over, training
// stopped early.
type Notice struct{ Text string }

func (*Planned) event()    {}
func (*Updated) event()    {}
func (*Evaluating) event() {}
func (*Evaluated) event()  {}
func (*Saved) event()      {}
func (*Notice) event()     {}
