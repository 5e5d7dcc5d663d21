package eval

// For the tests outside the package.
type (
	Node  = node
	Input = input
)

var (
	BuildModel = model
	OpenModel  = open
)

func NewNode(domain, op string, attrs map[string]any, in, out []string) Node {
	return node{op: op, domain: domain, in: in, out: out, attrs: attrs}
}

func NewInput(t *Tensor, name string) Input { return input{name, t.DType} }
