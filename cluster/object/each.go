package object

// Each calls do for 0 to n-1, in any order or at once, and returns the first
// error by number. The pure packages start no goroutine; who calls them hands in
// an Each that uses all processors, or InOrder.
type Each func(n int, do func(i int) error) error

// InOrder is the Each that uses no goroutine.
func InOrder(n int, do func(i int) error) error {
	for i := range n {
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}
