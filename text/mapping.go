package text

import (
	"encoding/binary"
	"io"
	"os"
	"unsafe"
)

// mapping is the memory that a file is mapped to; empty for a shard that is in memory.
type mapping struct{ data []byte }

func (m *mapping) mapped() bool { return m.data != nil }

// holds reports whether an address is in the mapping.
func (m *mapping) holds(address uintptr) bool {
	if m.data == nil {
		return false
	}
	base := uintptr(unsafe.Pointer(unsafe.SliceData(m.data)))
	return address >= base && address-base < uintptr(len(m.data))
}

// littleEndian says that the machine lays numbers out as shards do.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// readWhole reads size bytes from the front of a file, aligned for 64-bit numbers.
func readWhole(f *os.File, size int64) ([]byte, error) {
	words := make([]uint64, (size+7)/8)
	data := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), 8*len(words))[:size]
	_, err := io.ReadFull(io.NewSectionReader(f, 0, size), data)
	return data, err
}

// asUint16, asUint32 and asDigests read numbers that lie in memory in the machine's order.

func asUint16(b []byte) []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/2)
}

func asUint32(b []byte) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

func asInt32(b []byte) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

func asDigests(b []byte) []digest {
	return unsafe.Slice((*digest)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/len(digest{}))
}

// swapBytes turns little-endian numbers of width bytes into big-endian ones.
func swapBytes(b []byte, width int) {
	for ; len(b) >= width; b = b[width:] {
		for i, j := 0, width-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
}
