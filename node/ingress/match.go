package ingress

import (
	"crypto/tls"
	"net/url"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// site is everything that one host serves, from however many ingresses.
type site struct {
	exact, prefix map[string]*route
	cert          *tls.Certificate
	acme          *object.ACME
	lacks         []string
}

// route finds the path that fits best: the exact one, else the longest prefix
// that ends at a slash. path is clean.
func (s *site) route(path string) *route {
	if r := s.exact[path]; r != nil {
		return r
	}
	for p := path; ; {
		if r := s.prefix[p]; r != nil {
			return r
		}
		i := strings.LastIndexByte(p, '/')
		if i <= 0 {
			return s.prefix["/"]
		}
		p = p[:i]
	}
}

// lookup finds what belongs to a host: by its name, else the wildcard that it is
// one label more than, else the default ("").
func lookup[T any](hosts map[string]T, host string) (T, bool) {
	if v, ok := hosts[host]; ok && host != "" {
		return v, true
	}
	if i := strings.IndexByte(host, '.'); i > 0 {
		if v, ok := hosts["*"+host[i:]]; ok {
			return v, true
		}
	}
	v, ok := hosts[""]
	return v, ok
}

// cleanHost is the host of a request in the form of a configuration's: lower
// case, without port and the dot of the root.
func cleanHost(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && !strings.HasSuffix(h, "]") {
		h = h[:i]
	}
	return strings.ToLower(strings.TrimSuffix(h, "."))
}

// cleanPath is the decoded path of a request with runs of slashes made one, so
// that //admin is found at /admin and asks for its password. Paths with . and ..
// are refused: services do not agree upon what they mean, and clients resolve
// them before they ask.
func cleanPath(p string) (string, bool) {
	if p == "" || p[0] != '/' {
		return "", false
	}
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return p, true
	}
	var b strings.Builder
	b.Grow(len(p))
	for segment := range strings.SplitSeq(p[1:], "/") {
		if segment == "." || segment == ".." {
			return "", false
		}
		if segment != "" {
			b.WriteByte('/')
			b.WriteString(segment)
		}
	}
	if strings.HasSuffix(p, "/") {
		b.WriteByte('/')
	}
	return b.String(), true
}

// outward is the path that the service sees, decoded and, where the decoded form
// does not say it all (an escaped slash), escaped. path is u's, clean.
func (r *route) outward(u *url.URL, path string) (decoded, escaped string) {
	base := r.rewrite
	if r.strip {
		base = "/"
	}
	if base == "" {
		return u.Path, u.RawPath
	}
	prefix := r.path
	if prefix == "/" && !r.exact {
		prefix = ""
	}
	decoded = join(base, path[len(prefix):])
	if u.RawPath == "" || u.Path != path {
		return decoded, "" // the default encoding says it all, or the raw form is another
	}
	// Take as many segments off the escaped form as the prefix has.
	raw, cut := u.RawPath, 0
	for range strings.Count(prefix, "/") {
		if i := strings.IndexByte(raw[cut+1:], '/'); i >= 0 {
			cut += i + 1
		} else {
			cut = len(raw)
			break
		}
	}
	if got, err := url.PathUnescape(raw[:cut]); err != nil || got != prefix {
		return decoded, "" // a slash of the prefix itself came escaped
	}
	return decoded, join((&url.URL{Path: base}).EscapedPath(), raw[cut:])
}

// join puts what is left of a path behind a base.
func join(base, rest string) string {
	if rest == "" {
		return base
	}
	return strings.TrimSuffix(base, "/") + rest
}
