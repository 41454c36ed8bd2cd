package object

import "strings"

// DefaultNamespace holds the objects of configurations that name none.
const DefaultNamespace = "default"

// Ref is the address of an object. It is comparable and the key of every index.
// Namespace is empty for kinds that are not namespaced.
type Ref struct {
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// IsZero reports whether the reference points nowhere.
func (r Ref) IsZero() bool { return r == Ref{} }

// String is "kind/namespace/name", or "kind/name" where there is no namespace.
func (r Ref) String() string {
	if r.Namespace == "" {
		return string(r.Kind) + "/" + r.Name
	}
	return string(r.Kind) + "/" + r.Namespace + "/" + r.Name
}

// Address is how a configuration names the object: deployment.web.
func (r Ref) Address() string { return string(r.Kind) + "." + r.Name }

// Compare orders by kind, namespace and name: the order of every listing.
func (r Ref) Compare(o Ref) int {
	if r.Kind != o.Kind { // most comparisons of an index end at the last field
		return strings.Compare(string(r.Kind), string(o.Kind))
	}
	if r.Namespace != o.Namespace {
		return strings.Compare(r.Namespace, o.Namespace)
	}
	return strings.Compare(r.Name, o.Name)
}

// ParseRef is the inverse of Ref.String. Kinds may be spelled as ParseKind allows.
func ParseRef(s string) (Ref, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return Ref{}, Errorf(CodeInvalid, Ref{}, "%q is not kind/name or kind/namespace/name", s)
	}
	k, err := ParseKind(parts[0])
	if err != nil {
		return Ref{}, err
	}
	r := Ref{Kind: k, Name: parts[len(parts)-1]}
	if len(parts) == 3 {
		r.Namespace = parts[1]
	}
	return r, nil
}
