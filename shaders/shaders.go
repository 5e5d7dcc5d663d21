// Package shaders holds the Vulkan kernels: GLSL sources, and beside each the SPIR-V that
// scripts/shaders compiled it to, which is what the program carries.
package shaders

import (
	"embed"
	"encoding/binary"
	"fmt"
)

//go:embed *.spv
var files embed.FS

// Code returns the SPIR-V words of a kernel.
func Code(name string) ([]uint32, error) {
	data, err := files.ReadFile(name + ".spv")
	if err != nil || len(data) < 20 || len(data)%4 != 0 {
		return nil, fmt.Errorf("shaders: no kernel %q", name)
	}
	code := make([]uint32, len(data)/4)
	for i := range code {
		code[i] = binary.LittleEndian.Uint32(data[4*i:])
	}
	return code, nil
}
