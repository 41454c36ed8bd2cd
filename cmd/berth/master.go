package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/consensus"
	"github.com/berthdev/berth/cluster/master"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
	"github.com/berthdev/berth/cluster/seal"
	"github.com/berthdev/berth/hcl/policy"
	"github.com/berthdev/berth/planner"
)

// MasterCmd groups what concerns masters.
type MasterCmd struct {
	Run    MasterRunCmd    `cmd:"" help:"Be a master."`
	List   MasterListCmd   `cmd:"" default:"1" help:"List the masters."`
	Remove MasterRemoveCmd `cmd:"" help:"Take a master out of the cluster for good."`
}

// MasterRunCmd is the master process.
type MasterRunCmd struct {
	Name        string          `placeholder:"NAME" help:"Name among the masters; default: the host's."`
	Data        string          `default:"/var/lib/berth/master" placeholder:"DIR" help:"Where its log, keys and certificates are kept."`
	Listen      string          `default:"0.0.0.0:7400" placeholder:"HOST:PORT" help:"Address of the API."`
	Raft        string          `default:"0.0.0.0:7401" placeholder:"HOST:PORT" help:"Address for the other masters."`
	Advertise   string          `placeholder:"HOST" help:"Host name or address by which others reach this one; default: that of --listen, or the first address of this machine."`
	Bootstrap   bool            `help:"Found a new cluster, unless this directory holds one already."`
	Join        []string        `placeholder:"HOST:PORT" help:"Masters of the cluster to join, unless this directory has joined already."`
	JoinToken   string          `env:"BERTH_JOIN_TOKEN" placeholder:"TOKEN" help:"Token of role master (berth token create --role master)."`
	NodeTimeout object.Duration `default:"30s" help:"A node that is silent for this long is lost."`
	LogLevel    slog.Level      `default:"info" help:"debug, info, warn or error."`

	Pods      string `default:"10.78.0.0/16" placeholder:"RANGE" help:"When the cluster is founded: addresses of all pods; nodes get theirs out of it."`
	NodeBits  int    `default:"24" placeholder:"BITS" help:"When the cluster is founded: prefix of a node's range; 24 makes room for 253 pods on a node."`
	Services  string `default:"10.79.0.0/16" placeholder:"RANGE" help:"When the cluster is founded: addresses of the services."`
	NodePorts string `default:"30000-32767" placeholder:"FIRST-LAST" help:"When the cluster is founded: ports of services of type node_port."`
}

// adminName is the first administrator; the certificate lasts as any person's
// does (pki.Lifetime).
const adminName = "admin"

// joinPatience is how long to wait for masters that are starting, too.
const joinPatience = time.Minute

// Run is the master's life. It founds or joins a cluster first, once.
func (c *MasterRunCmd) Run(s *session) error {
	masterMemory()
	log := slog.New(slog.NewTextHandler(s.stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	if c.Name == "" {
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		c.Name = name
	}
	if err := pki.CheckName(c.Name); err != nil {
		return err
	}
	network, err := object.FoundNetwork(object.NetworkSpec{Pods: c.Pods, NodeBits: c.NodeBits, Services: c.Services, NodePorts: c.NodePorts})
	if err != nil {
		return err
	}
	if c.Advertise == "" {
		host, err := advertised(c.Listen)
		if err != nil {
			return err
		}
		c.Advertise = host
	}
	api, raft := onHost(c.Advertise, c.Listen), onHost(c.Advertise, c.Raft)
	files := pki.Files{Dir: filepath.Join(c.Data, "pki")}
	if !files.Joined() {
		var err error
		switch {
		case c.Bootstrap:
			err = c.found(files, api)
		case len(c.Join) > 0:
			err = c.join(s.ctx, files)
		default:
			err = &object.Error{Code: object.CodeInvalid, Message: c.Data + " holds no master yet",
				Hint: "Found a cluster with --bootstrap, or join one with --join HOST:PORT --join-token TOKEN."}
		}
		if err != nil {
			return err
		}
	}
	identity, err := files.Identity()
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	ca, err := files.CA()
	if err != nil {
		return fmt.Errorf("reading the cluster's authority: %w", err)
	}
	keys, err := seal.Open(filepath.Join(c.Data, "keys"))
	if err != nil {
		return fmt.Errorf("reading the keyring: %w", err)
	}
	self := object.Master{Name: c.Name, API: api, Raft: raft}
	config := master.Config{
		Version: version, Network: network, CA: ca, Identity: identity, Keys: keys, Check: planner.Check, Plan: forecast, Policies: &policy.Engine{}, NodeTimeout: c.NodeTimeout.D(), Log: log,
		Spool: filepath.Join(c.Data, "spool"),
		Consensus: consensus.Config{ID: c.Name, RaftAddress: raft, APIAddress: api, Storage: consensus.Disk(filepath.Join(c.Data, "raft")),
			ServerTLS: identity.PeerTLS(), ClientTLS: identity.PeerTLS(), Logger: log},
	}
	if err := os.MkdirAll(config.Spool, 0o700); err != nil {
		return err
	}
	if c.Bootstrap {
		config.Consensus.Bootstrap = []object.Master{self} // of an empty log only
	}
	if config.Listener, err = listen(c.Listen, "--listen"); err != nil {
		return err
	}
	defer config.Listener.Close()
	if config.Consensus.Listener, err = listen(c.Raft, "--raft"); err != nil {
		return err
	}
	defer config.Consensus.Listener.Close()
	m, err := master.Open(config)
	if err != nil {
		return err
	}
	log.Info("master is up", "name", c.Name, "api", api, "raft", raft)
	g, ctx := errgroup.WithContext(s.ctx)
	g.Go(func() error { return m.Run(ctx) })
	if !c.Bootstrap {
		g.Go(func() error { return c.enrol(ctx, log, identity, self) })
	}
	g.Go(func() error {
		err := renew(ctx, log, identity, files, []string{c.Advertise}, func(_ context.Context, csr []byte) ([]byte, error) {
			req, err := pki.ParseRequest(csr)
			if err != nil {
				return nil, err
			}
			return ca.Issue(req, c.Name, pki.RoleMaster)
		})
		if ctx.Err() != nil {
			return nil
		}
		return err
	})
	return g.Wait()
}

func listen(address, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &object.Error{Code: object.CodeUnavailable, Message: fmt.Sprintf("cannot listen at %s: %v", address, err), Hint: "Choose another address with " + flag + "."}
	}
	return l, nil
}

// enrol asks the leader to take this master into the membership, until it has;
// a member is only confirmed, with the addresses that it has now.
func (c *MasterRunCmd) enrol(ctx context.Context, log *slog.Logger, identity *pki.Identity, self object.Master) error {
	cl, err := client.New(client.Config{Addrs: c.Join, TLS: identity.ClientTLS(pki.RoleMaster, ""), Patience: joinPatience})
	if err != nil {
		return err
	}
	defer cl.Close()
	for {
		err := cl.AddMaster(ctx, self)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		log.Warn("not a member of the masters yet", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil
		}
	}
}

// renew keeps an identity from expiring.
func renew(ctx context.Context, log *slog.Logger, identity *pki.Identity, files pki.Files, addresses []string, ask func(context.Context, []byte) ([]byte, error)) error {
	return identity.Renew(ctx, addresses, ask, files.SaveIdentity, func(err error) { log.Warn("renewing the certificate", "error", err) })
}

// found makes a new cluster's authority and keys, this master's certificate, and
// an administrator's client configuration beside them.
func (c *MasterRunCmd) found(files pki.Files, api string) error {
	keysDir := filepath.Join(c.Data, "keys")
	keys, err := seal.Open(keysDir) // a founding that was interrupted goes on
	if errors.Is(err, fs.ErrNotExist) {
		keys, err = seal.Generate(keysDir)
	}
	if err != nil {
		return fmt.Errorf("making the cluster's keys: %w", err)
	}
	ca, err := files.CA()
	if errors.Is(err, fs.ErrNotExist) {
		if ca, err = pki.NewCA(keys.Cluster()); err == nil {
			err = files.SaveCA(ca)
		}
	}
	if err != nil {
		return fmt.Errorf("making the cluster's authority: %w", err)
	}
	issue := func(name, role string, addresses ...string) (chain, key []byte, err error) {
		key, csr, err := pki.NewRequest(name, addresses...)
		if err != nil {
			return nil, nil, err
		}
		req, err := pki.ParseRequest(csr)
		if err != nil {
			return nil, nil, err
		}
		chain, err = ca.Issue(req, name, role)
		return chain, key, err
	}
	chain, key, err := issue(adminName, string(object.RoleAdmin))
	if err != nil {
		return err
	}
	admin := pki.Files{Dir: filepath.Join(c.Data, "admin")}
	if err := admin.SaveRoot(ca.CertPEM()); err != nil {
		return err
	}
	if err := admin.SaveIdentity(chain, key); err != nil {
		return err
	}
	config := client.File{Current: "berth", Clusters: map[string]client.Context{
		"berth": {Addresses: []string{api}, CA: "ca.crt", Cert: "tls.pem", Key: "tls.pem"},
	}}
	if err := config.Write(filepath.Join(admin.Dir, "config")); err != nil {
		return err
	}
	chain, key, err = issue(c.Name, string(object.RoleMaster), c.Advertise)
	if err != nil {
		return err
	}
	return files.SaveIdentity(chain, key) // last: it is what Joined asks for
}

// join asks a master for a certificate, the authority's key and the keyring.
func (c *MasterRunCmd) join(ctx context.Context, files pki.Files) error {
	joined, key, err := joinCluster(ctx, object.RoleMaster, c.Join, c.JoinToken, c.Name, c.Advertise)
	if err != nil {
		return err
	}
	if joined.Role != object.RoleMaster {
		return &object.Error{Code: object.CodeForbidden, Message: fmt.Sprintf("the token is for a %s", joined.Role), Hint: "Make one with: berth token create --role master"}
	}
	ca, err := pki.ParseCA([]byte(joined.CA), []byte(joined.CAKey))
	if err != nil {
		return err
	}
	if err := files.SaveCA(ca); err != nil {
		return err
	}
	if _, err := seal.Import(filepath.Join(c.Data, "keys"), []byte(joined.Keyring)); err != nil {
		return err
	}
	return files.SaveIdentity([]byte(joined.Certificate), key)
}

// joinCluster turns a token into a certificate of the name for the addresses.
func joinCluster(ctx context.Context, role object.Role, masters []string, token, name string, addresses ...string) (object.Joined, []byte, error) {
	if token == "" {
		return object.Joined{}, nil, &object.Error{Code: object.CodeUnauthorized, Message: "joining needs a token", Hint: "Make one with berth token create, and give it by BERTH_JOIN_TOKEN or --join-token."}
	}
	key, csr, err := pki.NewRequest(name, addresses...)
	if err != nil {
		return object.Joined{}, nil, err
	}
	cl, err := client.New(client.Config{Addrs: masters, Token: token, Patience: joinPatience})
	if err != nil {
		return object.Joined{}, nil, err
	}
	defer cl.Close()
	joined, err := cl.Join(ctx, object.JoinRequest{Token: token, Role: role, Name: name, CSR: string(csr)})
	return joined, key, err
}

// advertised is the host part by which others reach a listener.
func advertised(listen string) (string, error) {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return "", &object.Error{Code: object.CodeInvalid, Message: fmt.Sprintf("%q is not HOST:PORT", listen)}
	}
	if ip := net.ParseIP(host); host != "" && (ip == nil || !ip.IsUnspecified()) {
		return host, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", &object.Error{Code: object.CodeInvalid, Message: "this machine has no address by which others could reach it", Hint: "Give one with --advertise."}
}

// onHost is the port of a listener at the host by which others reach it.
func onHost(host, listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(host, port)
}

// MasterListCmd is `berth master list`.
type MasterListCmd struct{ JSONFlag }

// Run lists the masters as the leader sees them.
func (c *MasterListCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	masters, err := cl.Masters(s.ctx)
	if object.IsCode(err, object.CodeNoLeader) {
		// What the master that answers knows of the others is better than nothing.
		s.tell(err)
		st, statusErr := cl.Status(s.ctx)
		if statusErr != nil {
			return statusErr
		}
		masters, err = st.Masters, nil
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(masters)
	}
	rows := [][]string{{"NAME", "API", "RAFT", "ROLE", "STATE"}}
	for _, m := range masters {
		role, state := "follower", "away"
		if m.Leader {
			role = "leader"
		} else if !m.Voter {
			role = "joining"
		}
		switch {
		case m.Alive:
			state = "alive"
		case m.Unknown: // no leader who would know
			state = "unknown"
		}
		rows = append(rows, []string{m.Name, m.API, m.Raft, role, state})
	}
	return s.table(rows...)
}

// MasterRemoveCmd is `berth master remove`.
type MasterRemoveCmd struct {
	Name string `arg:"" help:"The master."`
}

// Run removes a master from the membership.
func (c *MasterRemoveCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	if err := cl.RemoveMaster(s.ctx, c.Name); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Master %s is no longer a member.\n", c.Name)
	return nil
}

// TokenCmd groups the tokens.
type TokenCmd struct {
	Create TokenCreateCmd `cmd:"" help:"Make a token; it is shown once."`
	List   TokenListCmd   `cmd:"" default:"1" help:"List tokens."`
	Revoke TokenRevokeCmd `cmd:"" help:"End a token."`
	Pin    TokenPinCmd    `cmd:"" help:"Print what pins the cluster, for berth login: the hash of its authority's key, which is no secret."`
}

// TokenCreateCmd is `berth token create`.
type TokenCreateCmd struct {
	JSONFlag
	Role    string          `required:"" enum:"admin,planner,node,master" help:"What it entitles to: ${enum}."`
	TTL     object.Duration `default:"1h" help:"How long it is good for."`
	Uses    *int            `placeholder:"N" help:"How many may join by it; 0: any number, and requests, too. Default: 1 for node and master, 0 for admin and planner."`
	Name    string          `placeholder:"NAME" help:"The only name that may join by it."`
	Comment string          `help:"A note for the list."`

	Label map[string]string `placeholder:"KEY=VALUE" help:"A label for the nodes that join by it; berth/ingress=true lets them serve ingresses. Can be repeated."`
}

// Run prints the token alone on standard output, for scripts.
func (c *TokenCreateCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	uses := 0 // people and programs put it into BERTH_TOKEN and come often
	switch role := object.Role(c.Role); {
	case c.Uses != nil:
		uses = *c.Uses
	case role == object.RoleNode || role == object.RoleMaster:
		uses = 1
	}
	t, err := cl.CreateToken(s.ctx, object.TokenRequest{Role: object.Role(c.Role), TTL: c.TTL, Uses: uses, Name: c.Name, Comment: c.Comment, Labels: c.Label})
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(t)
	}
	fmt.Fprintln(s.stdout, t.Token)
	return nil
}

// TokenListCmd is `berth token list`.
type TokenListCmd struct{ JSONFlag }

// Run lists the tokens without their secrets.
func (c *TokenListCmd) Run(s *session) error {
	_, err := s.list(object.KindToken, "", nil, c.JSON, false)
	return err
}

// TokenRevokeCmd is `berth token revoke`.
type TokenRevokeCmd struct {
	ID string `arg:"" complete:"token" help:"The token's id: its part before the first dot."`
}

// Run deletes the token.
func (c *TokenRevokeCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	id, _, _ := strings.Cut(c.ID, ".")
	if err := cl.RevokeToken(s.ctx, id); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Token %s is revoked.\n", id)
	return nil
}

// SnapshotCmd groups the snapshots.
type SnapshotCmd struct {
	Save    SnapshotSaveCmd    `cmd:"" help:"Write the whole state to a file."`
	Restore SnapshotRestoreCmd `cmd:"" help:"Replace the whole state by that of a file."`
}

// SnapshotSaveCmd is `berth snapshot save`.
type SnapshotSaveCmd struct {
	File string `arg:"" complete:"file" help:"Where to write it."`
}

// Run writes beside the file first, so that a failure leaves no half of one.
func (c *SnapshotSaveCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(c.File), ".berth-snapshot-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	size, err := cl.SaveSnapshot(s.ctx, tmp)
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), c.File); err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "Saved %s (%s). Secrets in it are sealed by the masters' keyring: keep a copy of that, too.\n", c.File, object.Bytes(size).Human())
	return nil
}

// SnapshotRestoreCmd is `berth snapshot restore`.
type SnapshotRestoreCmd struct {
	File        string `arg:"" type:"existingfile" help:"What save wrote."`
	AutoApprove bool   `help:"Do not ask."`
}

// Run replaces the state; everything that runs and is not in the file is ended.
func (c *SnapshotRestoreCmd) Run(s *session) error {
	cl, err := s.connect()
	if err != nil {
		return err
	}
	if !c.AutoApprove {
		if err := s.confirm("Replace the whole state of the cluster?", "Everything that is not in "+c.File+" will be ended. This cannot be undone."); err != nil {
			return err
		}
	}
	if err := cl.RestoreSnapshot(s.ctx, func() (io.ReadCloser, error) { return os.Open(c.File) }); err != nil {
		return err
	}
	fmt.Fprintln(s.stdout, "The state is that of the file now.")
	return nil
}
