package object

// IngressSpec leads requests from outside to services, by host and path.
type IngressSpec struct {
	Host      string        `json:"host,omitempty" hcl:"host" effect:"in_place" doc:"Host name of the requests; \"*.example\" takes one label more. Absent: any that no other ingress names."`
	TLS       *IngressTLS   `json:"tls,omitempty" hcl:"tls,block" effect:"in_place" doc:"Serve the host by HTTPS, too."`
	Paths     []IngressPath `json:"paths,omitempty" hcl:"path,block" effect:"in_place" doc:"Where requests go; the longest path that fits wins."`
	Allow     []string      `json:"allow,omitempty" hcl:"allow" effect:"in_place" doc:"Addresses or ranges of clients that may ask; absent: all."`
	Deny      []string      `json:"deny,omitempty" hcl:"deny" effect:"in_place" doc:"Addresses or ranges of clients that may not ask, although allowed."`
	RateLimit *RateLimit    `json:"rate_limit,omitempty" hcl:"rate_limit,block" effect:"in_place" doc:"The most requests of one client; more are answered 429."`
	BasicAuth *BasicAuth    `json:"basic_auth,omitempty" hcl:"basic_auth,block" effect:"in_place" doc:"Ask for a user and a password."`
	Headers   *HeaderRules  `json:"headers,omitempty" hcl:"headers,block" effect:"in_place" doc:"Set and remove headers."`
	BodyLimit Bytes         `json:"body_limit,omitempty" hcl:"body_limit" effect:"in_place" doc:"The largest body of a request; larger ones are answered 413. Absent: any."`
	Gzip      bool          `json:"gzip,omitempty" hcl:"gzip" effect:"in_place" doc:"Compress answers for clients that take it."`
}

// IngressTLS says where the certificate comes from.
type IngressTLS struct {
	Secret   string `json:"secret,omitempty" hcl:"secret" doc:"Secret of the same namespace with the keys \"certificate\" (a chain in PEM) and \"key\"."`
	ACME     *ACME  `json:"acme,omitempty" hcl:"acme,block" doc:"Get the certificate from an authority by ACME, and renew it."`
	Redirect bool   `json:"redirect" hcl:"redirect" default:"true" doc:"Answer plain requests with a redirect to HTTPS."`
}

// The keys of the secret that IngressTLS.Secret names.
const (
	TLSCertificate = "certificate"
	TLSKey         = "key"
)

// ACME is an account at a certificate authority.
type ACME struct {
	Email     string `json:"email,omitempty" hcl:"email" doc:"Whom the authority may write to."`
	Directory string `json:"directory" hcl:"directory" default:"https://acme-v02.api.letsencrypt.org/directory" doc:"Address of the authority's directory."`
}

// IngressPath leads the requests of a path to a service, or several by weight.
type IngressPath struct {
	Path           string           `json:"path" hcl:"path,label" doc:"The path, beginning with a slash."`
	Match          string           `json:"match" hcl:"match" default:"prefix" enum:"prefix,exact" doc:"prefix: the path and all below it; exact: only the path."`
	Service        string           `json:"service,omitempty" hcl:"service" doc:"Service of the same namespace."`
	Port           PortRef          `json:"port,omitempty" hcl:"port" doc:"Port of the service by name or number; default: its only one."`
	Backends       []IngressBackend `json:"backends,omitempty" hcl:"backend,block" doc:"Several services instead of one, by weight, header or cookie."`
	Protocol       string           `json:"protocol" hcl:"protocol" default:"http" enum:"http,h2c,https" doc:"How pods are spoken to. h2c: HTTP/2 without TLS, as gRPC wants it."`
	StripPrefix    bool             `json:"strip_prefix,omitempty" hcl:"strip_prefix" doc:"Take the path off what the service sees."`
	Rewrite        string           `json:"rewrite,omitempty" hcl:"rewrite" doc:"Put this in the place of the path in what the service sees."`
	Redirect       *Redirect        `json:"redirect,omitempty" hcl:"redirect,block" doc:"Answer with a redirect; the path then needs no service."`
	Headers        *HeaderRules     `json:"headers,omitempty" hcl:"headers,block" doc:"Set and remove headers, after those of the ingress."`
	Timeout        Duration         `json:"timeout" hcl:"timeout" default:"60s" doc:"The longest wait for the first byte of an answer; then 504."`
	ConnectTimeout Duration         `json:"connect_timeout" hcl:"connect_timeout" default:"2s" doc:"The longest wait for a connection to a pod."`
	Retries        int              `json:"retries" hcl:"retries" default:"2" doc:"How often another pod is tried when one cannot be connected to."`
	Sticky         *Sticky          `json:"sticky,omitempty" hcl:"sticky,block" doc:"Keep a client with its pod by a cookie."`
}

// IngressBackend is one of several services behind a path.
type IngressBackend struct {
	Service string  `json:"service" hcl:"service,label" doc:"Service of the same namespace."`
	Port    PortRef `json:"port,omitempty" hcl:"port" doc:"Port of the service by name or number; default: its only one."`
	Weight  int     `json:"weight,omitempty" hcl:"weight" doc:"Its part of the sum of all weights, 0 to 10000."`
	Header  string  `json:"header,omitempty" hcl:"header" doc:"Requests with this header, as NAME or NAME=VALUE, go here whatever the weights say."`
	Cookie  string  `json:"cookie,omitempty" hcl:"cookie" doc:"Requests with this cookie, as NAME or NAME=VALUE, go here whatever the weights say."`
}

// Redirect is an answer that sends the client elsewhere.
type Redirect struct {
	To   string `json:"to" hcl:"to,required" doc:"A path or a whole address; {path} stands for what was asked for, {host} for the host."`
	Code int    `json:"code" hcl:"code" default:"308" doc:"The status: 301, 302, 303, 307 or 308."`
}

// HeaderRules change headers on the way.
type HeaderRules struct {
	Request        map[string]string `json:"request,omitempty" hcl:"request" doc:"Headers that the service sees, whatever the client sent."`
	Response       map[string]string `json:"response,omitempty" hcl:"response" doc:"Headers that the client sees, whatever the service sent."`
	RemoveRequest  []string          `json:"remove_request,omitempty" hcl:"remove_request" doc:"Headers that the service does not see."`
	RemoveResponse []string          `json:"remove_response,omitempty" hcl:"remove_response" doc:"Headers that the client does not see."`
}

// Sticky keeps a client with its pod.
type Sticky struct {
	Cookie string   `json:"cookie" hcl:"cookie" default:"berth" doc:"Name of the cookie."`
	TTL    Duration `json:"ttl" hcl:"ttl" default:"0s" doc:"How long the cookie lasts; 0s: as long as the browser's session."`
}

// RateLimit is so many requests in so much time.
type RateLimit struct {
	Requests int      `json:"requests" hcl:"requests,required" doc:"Requests of one client address."`
	Per      Duration `json:"per" hcl:"per" default:"1s" doc:"In this time."`
	Burst    int      `json:"burst,omitempty" hcl:"burst" doc:"How many may come at once; default: requests."`
}

// BasicAuth names who may ask.
type BasicAuth struct {
	Secret string `json:"secret" hcl:"secret,required" doc:"Secret of the same namespace: users by key, passwords as values, plain or as bcrypt."`
	Realm  string `json:"realm" hcl:"realm" default:"Berth" doc:"What the browser shows."`
}

// IngressStatus tells ingress nodes which versions of the secrets are in force.
type IngressStatus struct {
	Secrets map[string]string `json:"secrets,omitempty"` // digests of the secrets that it reads, by name
	Message string            `json:"message,omitempty"` // what it lacks, in words
}

// Ingress is the way in from outside for a host.
type Ingress struct {
	Meta   `json:"meta"`
	Spec   IngressSpec   `json:"spec"`
	Status IngressStatus `json:"status,omitzero"`
}

func (o *Ingress) SpecPtr() any   { return &o.Spec }
func (o *Ingress) StatusPtr() any { return &o.Status }
func (o *Ingress) Clone() Object  { c := *o; return &c }

// SecretRefs lists the secrets that the ingress reads, sorted, each once.
func (o *Ingress) SecretRefs() []Ref {
	var out []Ref
	if t := o.Spec.TLS; t != nil && t.Secret != "" {
		out = append(out, Ref{Kind: KindSecret, Namespace: o.Namespace, Name: t.Secret})
	}
	if a := o.Spec.BasicAuth; a != nil && a.Secret != "" {
		out = append(out, Ref{Kind: KindSecret, Namespace: o.Namespace, Name: a.Secret})
	}
	if len(out) == 2 {
		switch c := out[0].Compare(out[1]); {
		case c == 0:
			out = out[:1]
		case c > 0:
			out[0], out[1] = out[1], out[0]
		}
	}
	return out
}
