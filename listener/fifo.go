package listener

// fifo is a first-in first-out list.
type fifo[T any] struct{ items []T }

func (f *fifo[T]) len() int           { return len(f.items) }
func (f *fifo[T]) push(items ...T)    { f.items = append(f.items, items...) }
func (f *fifo[T]) takeAll() (all []T) { all, f.items = f.items, nil; return all }

func (f *fifo[T]) pop() (first T, ok bool) {
	if len(f.items) == 0 {
		return first, false
	}
	var zero T
	first, f.items[0] = f.items[0], zero
	if f.items = f.items[1:]; len(f.items) == 0 {
		f.items = nil
	}
	return first, true
}
