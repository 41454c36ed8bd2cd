package object

// Renamed is an object under another name: what a moved block makes of it.
func Renamed(o Object, r Ref) Object {
	c := o.Clone()
	m := c.Head()
	m.Namespace, m.Name = r.Namespace, r.Name
	return c
}

// Moved reports whether the change gives an object another name; what it owns
// stays and is owned by the new one.
func (c *PlannedChange) Moved() bool { return !c.From.IsZero() }
