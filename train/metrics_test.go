package train

import (
	"math"
	"testing"
)

func TestEvaluationMetrics(t *testing.T) {
	near := func(name string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	// TN 50, FP 10, FN 5, TP 35, by the textbook formulas.
	c := &confusion{counts: [][]int64{{50, 10}, {5, 35}}, loss: 25}
	e := c.evaluation([]string{"no", "yes"})
	near("accuracy", e.Accuracy, 0.85)
	near("f1", e.F1, 70.0/85)
	near("mcc", e.MCC, (35*50-10*5)/math.Sqrt(45*40*60*55))
	near("loss", e.Loss, 0.25)
	near("majority", e.MajorityShare, 0.6)
	if e.N != 100 || e.Majority != "no" {
		t.Errorf("%+v", e)
	}
	// Three labels: macro F1 and Gorodkin's coefficient, worked by hand.
	c = &confusion{counts: [][]int64{{2, 1, 0}, {0, 3, 0}, {1, 0, 3}}}
	e = c.evaluation([]string{"a", "b", "c"})
	near("macro f1", e.F1, (4.0/6+6.0/7+6.0/7)/3)
	near("gorodkin", e.MCC, (8*10-(3*3+4*3+3*4))/(math.Sqrt(100-34)*math.Sqrt(100-34)))
	// One label predicted throughout: no division by zero.
	c = &confusion{counts: [][]int64{{3, 0}, {2, 0}}}
	e = c.evaluation([]string{"a", "b"})
	near("f1 of nothing", e.F1, 0)
	near("mcc of nothing", e.MCC, 0)
}

func TestConfusionLoss(t *testing.T) {
	c := newConfusion(2)
	c.add(0, []float32{0, 0})
	c.add(1, []float32{1000, 1001})
	want := (math.Ln2 + math.Log1p(math.Exp(-1))) / 2
	if e := c.evaluation([]string{"a", "b"}); math.Abs(e.Loss-want) > 1e-12 || e.Accuracy != 1 {
		t.Errorf("%+v, want loss %v", e, want)
	}
}

func TestBetter(t *testing.T) {
	a, b := &Evaluation{Accuracy: 0.9, ClassEvaluation: &ClassEvaluation{MCC: 0.1}, Loss: 2}, &Evaluation{Accuracy: 0.8, ClassEvaluation: &ClassEvaluation{MCC: 0.2}, Loss: 1}
	if !a.better(nil, "accuracy") || !a.better(b, "accuracy") || a.better(b, "mcc") || a.better(a, "accuracy") {
		t.Error("order of evaluations")
	}
	if tie := (&Evaluation{Accuracy: 0.9, Loss: 1}); !tie.better(a, "accuracy") {
		t.Error("a tie goes to the smaller loss")
	}
}
