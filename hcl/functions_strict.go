package hcl

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"unicode/utf8"

	"github.com/apparentlymart/go-cidr/cidr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"
	"golang.org/x/crypto/ssh"
)

// The functions that go-cty-funcs has, too, but not as Terraform documents them:
// it computes with numbers of 32 bits where IPv6 needs more, gives IPv6 a netmask,
// knows one format of private keys, logs what does not decode, and sees paths
// from where the process stands instead of from the configuration.

var base64DecodeFunc = texts([]string{"str"}, cty.String, func(a []string) (cty.Value, error) {
	b, err := base64.StdEncoding.DecodeString(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "not base64: %v", err)
	}
	if !utf8.Valid(b) {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "the result is not a text in UTF-8")
	}
	return cty.StringVal(string(b)), nil
})

func absPathFunc(dir string) function.Function {
	return texts([]string{"path"}, cty.String, func(a []string) (cty.Value, error) {
		if filepath.IsAbs(a[0]) {
			return cty.StringVal(filepath.ToSlash(filepath.Clean(a[0]))), nil
		}
		return cty.StringVal(filepath.ToSlash(filepath.Join(dir, a[0]))), nil
	})
}

var rsaDecryptFunc = texts([]string{"ciphertext", "privatekey"}, cty.String, func(a []string) (cty.Value, error) {
	b, err := base64.StdEncoding.DecodeString(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "the text to decrypt is not base64")
	}
	raw, err := ssh.ParseRawPrivateKey([]byte(a[1]))
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return cty.UnknownVal(cty.String), function.NewArgErrorf(1, "the key is locked with a passphrase; unlock it first")
	case err != nil:
		return cty.UnknownVal(cty.String), function.NewArgErrorf(1, "not a private key in PEM")
	}
	key, ok := raw.(*rsa.PrivateKey)
	if !ok {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(1, "not an RSA key")
	}
	//nolint:staticcheck // this padding is what rsadecrypt is documented for; nobody can ask it from afar
	out, err := rsa.DecryptPKCS1v15(nil, key, b)
	if err != nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "this key does not decrypt it")
	}
	return cty.StringVal(string(out)), nil
})

// network parses a range of addresses.
func network(prefix string) (*net.IPNet, error) {
	_, n, err := net.ParseCIDR(prefix)
	if err != nil {
		return nil, function.NewArgErrorf(0, "not a range of addresses such as 10.0.0.0/8")
	}
	return n, nil
}

var cidrHostFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "prefix", Type: cty.String}, {Name: "hostnum", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		n, err := network(args[0].AsString())
		if err != nil {
			return cty.UnknownVal(t), err
		}
		var host *big.Int
		if err := gocty.FromCtyValue(args[1], &host); err != nil {
			return cty.UnknownVal(t), function.NewArgError(1, err)
		}
		ip, err := cidr.HostBig(n, host)
		if err != nil {
			return cty.UnknownVal(t), function.NewArgError(1, err)
		}
		return cty.StringVal(ip.String()), nil
	},
})

var cidrNetmaskFunc = texts([]string{"prefix"}, cty.String, func(a []string) (cty.Value, error) {
	n, err := network(a[0])
	if err != nil {
		return cty.UnknownVal(cty.String), err
	}
	if n.IP.To4() == nil {
		return cty.UnknownVal(cty.String), function.NewArgErrorf(0, "IPv6 addresses cannot have a netmask: %s", a[0])
	}
	return cty.StringVal(net.IP(n.Mask).String()), nil
})

var cidrSubnetFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "prefix", Type: cty.String}, {Name: "newbits", Type: cty.Number}, {Name: "netnum", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		n, err := network(args[0].AsString())
		if err != nil {
			return cty.UnknownVal(t), err
		}
		var bits int
		if err := gocty.FromCtyValue(args[1], &bits); err != nil {
			return cty.UnknownVal(t), function.NewArgError(1, err)
		}
		if bits < 0 {
			return cty.UnknownVal(t), function.NewArgErrorf(1, "a part of a network is not larger than the network")
		}
		var number *big.Int
		if err := gocty.FromCtyValue(args[2], &number); err != nil {
			return cty.UnknownVal(t), function.NewArgError(2, err)
		}
		part, err := cidr.SubnetBig(n, bits, number)
		if err != nil {
			return cty.UnknownVal(t), err
		}
		return cty.StringVal(part.String()), nil
	},
})

var cidrContainsFunc = texts([]string{"containing", "contained"}, cty.Bool, func(a []string) (cty.Value, error) {
	outer, err := netip.ParsePrefix(a[0])
	if err != nil {
		return cty.UnknownVal(cty.Bool), function.NewArgError(0, err)
	}
	inner, err := netip.ParsePrefix(a[1])
	if err != nil {
		ip, err2 := netip.ParseAddr(a[1])
		if err2 != nil {
			return cty.UnknownVal(cty.Bool), function.NewArgErrorf(1, "neither an address nor a range of addresses")
		}
		inner = netip.PrefixFrom(ip, ip.BitLen())
	}
	return cty.BoolVal(outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())), nil
})
