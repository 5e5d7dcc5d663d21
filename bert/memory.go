package bert

// Bytes returns the device memory of the workspace.
func (w *Workspace) Bytes() int64 {
	if w.arena == nil {
		return 0
	}
	return w.arena.Size()
}

// HeadBytes returns the device memory that the heads work in.
func (m *Model) HeadBytes() int64 {
	if m.arena == nil {
		return 0
	}
	return m.arena.Size()
}
