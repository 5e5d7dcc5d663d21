// Command sift trains BERT-family encoders from ONNX files and writes them back.
package main

import (
	"os"

	"sift/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
