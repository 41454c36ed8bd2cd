package state

import "github.com/berthdev/berth/cluster/object"

// Load is a store that holds the objects as they are, versions included: what a
// client read from the masters at an index, or a fixture. The first of several
// objects with one address wins.
func Load(index uint64, objects []object.Object) *Store {
	s := New()
	s.live.index = index
	for _, o := range objects {
		r := o.Ref()
		if _, known := object.Info(r.Kind); !known {
			continue
		}
		if _, there := s.live.Get(r); !there {
			s.put(r, nil, o)
		}
	}
	s.publish()
	return s
}
