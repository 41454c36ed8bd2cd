package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// kernel is the packet filter, by way of the iptables programs. They come with one
// of two backends, nft and legacy, whose rules do not see each other.
type kernel struct {
	t       *iptables.IPTables
	restore string
	save    string
	nft     bool
	can     map[string]bool // what was tried out
}

func openKernel() (*kernel, error) {
	t, err := openTables()
	if err != nil {
		return nil, err
	}
	k := &kernel{t: t, can: map[string]bool{}}
	for _, p := range []struct {
		name string
		path *string
	}{{"iptables-restore", &k.restore}, {"iptables-save", &k.save}} {
		if *p.path, err = exec.LookPath(p.name); err != nil {
			return nil, fmt.Errorf("iptables is here, but not %s (%w); install it whole: apt-get install iptables", p.name, err)
		}
	}
	out, err := run(context.Background(), nil, k.save, "--version")
	if err != nil {
		return nil, err
	}
	k.nft = bytes.Contains(out, []byte("nf_tables"))
	return k, nil
}

// diagnose refuses to begin beside rules of Berth in the other backend: both would
// be in force, and the older ones lead to pods that are gone.
func (k *kernel) diagnose(ctx context.Context) error {
	mine, other := "legacy", "nft"
	if k.nft {
		mine, other = "nft", "legacy"
		// Reading a legacy table makes it, so that is done only where there is one.
		if names, err := os.ReadFile("/proc/net/ip_tables_names"); err != nil || len(names) == 0 {
			return nil //nolint:nilerr // a kernel without legacy tables has no rules in them
		}
	}
	save, err := exec.LookPath("iptables-" + other + "-save")
	if err != nil {
		return nil //nolint:nilerr // who cannot read the other backend has not written to it
	}
	for _, table := range tables {
		out, err := run(ctx, nil, save, "-t", table)
		if err != nil {
			continue // that backend does not work here
		}
		if bytes.Contains(out, []byte("\n:BERTH-")) {
			return fmt.Errorf("iptables: rules of Berth are in the %[1]s backend, but iptables now writes to the %[2]s backend, and both would be in force. "+
				"Go back to the other with: update-alternatives --set iptables %[3]s; or stop the node, remove the old rules with: "+
				"%[4]s | grep -v BERTH- | iptables-%[1]s-restore; and start it again", other, mine, strings.TrimSuffix(save, "-save"), save)
		}
	}
	return nil
}

// read is what the services' chains hold, and the jumps into Berth's chains.
func (k *kernel) read(ctx context.Context) (set ruleSet, jumps map[string][]string, err error) {
	return k.readChains(ctx, isServiceChain, tables...)
}

// readChains is what some of our chains hold, and the jumps into Berth's chains.
func (k *kernel) readChains(ctx context.Context, ours func(chain string) bool, tables ...string) (set ruleSet, jumps map[string][]string, err error) {
	set, jumps = ruleSet{}, map[string][]string{}
	for _, table := range tables {
		out, err := run(ctx, nil, k.save, "-t", table)
		if err != nil {
			return nil, nil, err
		}
		set[table] = map[string][]string{}
		jumps[table] = set.parse(table, out, ours)
	}
	return set, jumps, nil
}

// isServiceChain reports whether a chain is of the services.
func isServiceChain(name string) bool {
	return name == chainServices || strings.HasPrefix(name, "BERTH-SVC-")
}

// write gives a script to iptables-restore. Chains that it does not name stay.
func (k *kernel) write(ctx context.Context, script []byte) error {
	_, err := run(ctx, script, k.restore, "--noflush", "--wait", "5")
	return err
}

// supports tries out whether the kernel takes a rule, in a chain that nothing
// leads to.
func (k *kernel) supports(ctx context.Context, rule string) (bool, error) {
	if ok, known := k.can[rule]; known {
		return ok, nil
	}
	const chain = "BERTH-SVC-TRY"
	err := k.write(ctx, []byte("*nat\n:"+chain+" - [0:0]\n-A "+chain+" "+rule+"\nCOMMIT\n"))
	var refused *commandError
	if err != nil && !errors.As(err, &refused) || ctx.Err() != nil {
		return false, errors.Join(err, ctx.Err())
	}
	k.can[rule] = err == nil
	if err == nil {
		err = k.write(ctx, []byte("*nat\n:"+chain+" - [0:0]\n-X "+chain+"\nCOMMIT\n"))
		return true, err
	}
	return false, nil
}

// commandError is a program that failed, with what it said.
type commandError struct {
	program string
	said    string
	err     error
}

func (e *commandError) Error() string {
	return fmt.Sprintf("%s: %v: %s%s", e.program, e.err, e.said, cure(e.said))
}

func (e *commandError) Unwrap() error { return e.err }

func run(ctx context.Context, in []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, complaint bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, &commandError{program, strings.TrimSpace(complaint.String()), err}
	}
	return out.Bytes(), nil
}

// cure says what to do about a complaint of iptables, if that is known.
func cure(said string) string {
	for _, c := range []struct{ complaint, advice string }{
		{"Failed to initialize nft", "this kernel has no nf_tables; use the other backend: update-alternatives --set iptables /usr/sbin/iptables-legacy"},
		{"is incompatible, use 'nft' tool", "somebody has put rules of nft into a table of iptables; move them to a table of their own: nft list ruleset shows them"},
		{"Table does not exist", "this kernel has no tables for iptables-legacy; load the module iptable_nat, or use the other backend: update-alternatives --set iptables /usr/sbin/iptables-nft"},
		{"missing kernel module", "this kernel lacks a part of netfilter; load it: modprobe xt_statistic; modprobe xt_conntrack; modprobe xt_addrtype; modprobe xt_comment"},
		{"Permission denied", "the node must run as root, with CAP_NET_ADMIN"},
		{"xtables lock", "another program holds the lock of iptables for long; find it with: fuser /run/xtables.lock"},
	} {
		if strings.Contains(said, c.complaint) {
			return ". " + c.advice
		}
	}
	return ""
}

// generation is the number of changes that the nft backend has seen in this network
// namespace, whoever made them. No answer means that all must be read to know.
func (k *kernel) generation() (uint32, bool) {
	if !k.nft {
		return 0, false
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(answers) != 1 || len(answers[0]) < nl.SizeofNfgenmsg {
		return 0, false
	}
	attributes, err := nl.ParseRouteAttr(answers[0][nl.SizeofNfgenmsg:])
	if err != nil {
		return 0, false
	}
	for _, a := range attributes {
		if a.Attr.Type == unix.NFTA_GEN_ID && len(a.Value) == 4 {
			return binary.BigEndian.Uint32(a.Value), true
		}
	}
	return 0, false
}
