package object

import "time"

// The values in this file are the bodies of the masters' API that are neither
// objects nor plans; cluster/api serves them and cluster/client asks for them.

// Page is the answer to a listing: what was so at Index.
type Page struct {
	Index uint64 `json:"index"`
	Items []Any  `json:"items"`
}

// Further lines of a watch.
const (
	// WatchReset is made by the client: what was seen so far is void, the objects
	// that exist now follow as creates, then WatchSynced.
	WatchReset WatchOp = "reset"
	// WatchError is the last line of a watch that the masters end; Error says why.
	WatchError WatchOp = "error"
)

// Written is the answer to a write.
type Written struct {
	Index  uint64 `json:"index"`
	Object Any    `json:"object,omitzero"` // as it is now; absent after a delete
}

// ApplyRequest commits a plan that the masters have sealed.
type ApplyRequest struct {
	Plan Plan `json:"plan"`
	// Secrets are the plain values that the plan writes, by their keyed digest.
	Secrets map[string]string `json:"secrets,omitempty"`
	// Sealed are values out of the snapshot that a plan restores.
	Sealed []SealedValue `json:"sealed,omitempty"`
	// AllowUnplaced goes on though the forecast says that some pods fit nowhere.
	AllowUnplaced bool `json:"allow_unplaced,omitempty"`
	// Guards hold besides those of the plan.
	Guards Guards `json:"guards,omitzero"`
	// Attempt is the client's own name for this request, at most AttemptLength
	// bytes. Sent again, after an answer that was lost, it is not carried out a
	// second time: the answer is what it has become. Empty: the request is new.
	Attempt string `json:"attempt,omitempty"`
}

// AttemptLength bounds ApplyRequest.Attempt.
const AttemptLength = 64

// Applied tells which revision an apply has become.
type Applied struct {
	Index    uint64 `json:"index"`
	Stack    string `json:"stack"`
	Number   int    `json:"number"`
	Revision Ref    `json:"revision"`
	// Restored are the revisions of a plan of several stacks, in place of the one above.
	Restored []Applied `json:"restored,omitempty"`
}

// DigestRequest asks for the keyed digests of plain values.
type DigestRequest struct {
	Values []string `json:"values"`
	// At names, for each value, the key of a secret to compare it with; it is
	// empty or as long as Values. Who may not read digests can still learn
	// whether a secret is as its configuration has it.
	At []SecretAt `json:"at,omitempty"`
}

// SecretAt is one key of a secret.
type SecretAt struct {
	Ref Ref    `json:"ref"`
	Key string `json:"key"`
}

// Digests answers a DigestRequest, in its order.
type Digests struct {
	Digests []string `json:"digests"`
	Same    []bool   `json:"same,omitempty"` // whether the value is what SecretAt holds
}

// Revealed is a content in plain, for the node whose pods read it.
type Revealed struct {
	Of   Ref               `json:"of"`
	Data map[string]string `json:"data"`
}

// ForwardProtocol is what a connection is upgraded to that leads to a port of a pod:
// bytes, as they come.
const ForwardProtocol = "berth-forward"

// TokenRequest asks for a token.
type TokenRequest struct {
	Role    Role     `json:"role"`
	TTL     Duration `json:"ttl,omitempty"`  // default 1h
	Uses    int      `json:"uses,omitempty"` // joins it is good for; 0: any number
	Name    string   `json:"name,omitempty"` // the only name that may join by it
	Comment string   `json:"comment,omitempty"`
	// Labels are given to the nodes that join by it, for role node.
	Labels map[string]string `json:"labels,omitempty"`
}

// IssuedToken is a token in plain; it is shown once and never again.
type IssuedToken struct {
	ID      string    `json:"id"`
	Token   string    `json:"token"`
	Role    Role      `json:"role"`
	Expires time.Time `json:"expires"`
}

// JoinRequest turns a token into a certificate. The masters choose the subject
// from Name and the token's role; the key never leaves who asks.
type JoinRequest struct {
	Token string `json:"token"`
	Role  Role   `json:"role,omitempty"` // what it means to be; another role than the token's is refused. Empty: the token's.
	Name  string `json:"name"`
	CSR   string `json:"csr"` // PEM, PKCS #10; its addresses become the certificate's for nodes and masters
}

// Joined answers a join and a renewal.
type Joined struct {
	Cluster     string    `json:"cluster"` // id
	Name        string    `json:"name"`
	Role        Role      `json:"role"`
	Certificate string    `json:"certificate"` // PEM, leaf then CA
	CA          string    `json:"ca"`          // PEM
	Expires     time.Time `json:"expires"`
	Masters     []Master  `json:"masters,omitempty"`
	// CAKey and Keyring are given to role master only, which has to issue
	// certificates and read secrets like any other.
	CAKey   string `json:"ca_key,omitempty"`
	Keyring string `json:"keyring,omitempty"`
}

// RenewRequest asks for a new certificate of the same name and role.
type RenewRequest struct {
	CSR string `json:"csr"`
}

// Master is one member of the control plane.
type Master struct {
	Name   string `json:"name"`
	API    string `json:"api"`  // host:port
	Raft   string `json:"raft"` // host:port
	Leader bool   `json:"leader,omitempty"`
	Voter  bool   `json:"voter,omitempty"`
	Alive  bool   `json:"alive,omitempty"` // as the leader sees it
	// Unknown says that whoever answers does not lead, and cannot tell whether this
	// master is alive.
	Unknown bool `json:"unknown,omitempty"`
}

// ClusterStatus is the cluster at a glance.
type ClusterStatus struct {
	Cluster string         `json:"cluster"`
	Version string         `json:"version"`
	Self    string         `json:"self"` // the master that answered
	Leader  string         `json:"leader,omitempty"`
	Index   uint64         `json:"index"`
	Masters []Master       `json:"masters"`
	Nodes   map[string]int `json:"nodes"` // by condition
	Pods    map[string]int `json:"pods"`  // by phase
}

// Image is a container image on a node.
type Image struct {
	Name   string `json:"name"`
	Digest string `json:"digest,omitempty"`
	Size   Bytes  `json:"size,omitempty"`
}

// NodeImages are the images that one node holds, or has just taken in. The node
// agent answers GET and POST /v1/images with it.
type NodeImages struct {
	Node   string  `json:"node"`
	Images []Image `json:"images,omitempty"`
	Error  *Error  `json:"error,omitempty"`
}

// ImagesPage answers what is asked of every node.
type ImagesPage struct {
	Items []NodeImages `json:"items"`
}

// IngressSecrets are the secrets that an ingress reads, in plain, for a node that
// serves it: the answer of GET /v1/namespaces/{ns}/ingresses/{name}/secrets. Those
// that do not exist are left out.
type IngressSecrets struct {
	Secrets map[string]PlainSecret `json:"secrets"` // by name
}

// PlainSecret is one version of a secret.
type PlainSecret struct {
	Digest string            `json:"digest"` // as in IngressStatus.Secrets
	Data   map[string]string `json:"data"`
}
