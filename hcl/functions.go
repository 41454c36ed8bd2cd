package hcl

import (
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-cty-funcs/cidr"
	"github.com/hashicorp/go-cty-funcs/collection"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/filesystem"
	"github.com/hashicorp/go-cty-funcs/uuid"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functionsFor are Terraform's functions under Terraform's names, less those
// whose result differs from run to run (uuid, bcrypt), for a plan may not.
// Paths are relative to dir; now is what timestamp() returns.
func functionsFor(dir string, now time.Time) map[string]function.Function {
	f := map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc, "log": stdlib.LogFunc, "max": stdlib.MaxFunc,
		"min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc, "pow": stdlib.PowFunc, "signum": stdlib.SignumFunc, "sum": sumFunc,

		"chomp": stdlib.ChompFunc, "endswith": textTest("suffix"), "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc,
		"indent": stdlib.IndentFunc, "join": stdlib.JoinFunc, "lower": stdlib.LowerFunc, "regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc,
		"replace": replaceFunc, "split": stdlib.SplitFunc, "startswith": textTest("prefix"), "strcontains": textTest("substr"), "strrev": stdlib.ReverseFunc,
		"substr": stdlib.SubstrFunc, "title": stdlib.TitleFunc, "trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc,
		"trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,

		"alltrue": allFunc(true), "anytrue": allFunc(false), "chunklist": stdlib.ChunklistFunc, "coalesce": collection.CoalesceFunc,
		"coalescelist": stdlib.CoalesceListFunc, "compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc, "index": indexFunc, "keys": stdlib.KeysFunc,
		"length": lengthFunc, "lookup": lookupFunc, "matchkeys": matchKeysFunc, "merge": stdlib.MergeFunc, "one": oneFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc, "setproduct": stdlib.SetProductFunc,
		"setsubtract": stdlib.SetSubtractFunc, "setunion": stdlib.SetUnionFunc, "slice": stdlib.SliceFunc, "sort": stdlib.SortFunc,
		"transpose": transposeFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,

		"base64decode": base64DecodeFunc, "base64encode": encoding.Base64EncodeFunc, "base64gzip": base64GzipFunc, "base64gunzip": base64GunzipFunc,
		"csvdecode": stdlib.CSVDecodeFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,
		"textdecodebase64": textDecodeBase64Func, "textencodebase64": textEncodeBase64Func, "urlencode": encoding.URLEncodeFunc, "urldecode": urlDecodeFunc,
		"yamldecode": ctyyaml.YAMLDecodeFunc, "yamlencode": ctyyaml.YAMLEncodeFunc,

		"abspath": absPathFunc(dir), "basename": filesystem.BasenameFunc, "dirname": filesystem.DirnameFunc, "pathexpand": filesystem.PathExpandFunc,
		"file": filesystem.MakeFileFunc(dir, false), "filebase64": filesystem.MakeFileFunc(dir, true),
		"fileexists": filesystem.MakeFileExistsFunc(dir), "fileset": filesystem.MakeFileSetFunc(dir),

		"formatdate": stdlib.FormatDateFunc, "timeadd": stdlib.TimeAddFunc, "timecmp": timeCmpFunc,
		"timestamp": timestampFunc(now), "plantimestamp": timestampFunc(now),

		"md5": crypto.Md5Func, "rsadecrypt": rsaDecryptFunc, "sha1": crypto.Sha1Func, "sha256": crypto.Sha256Func,
		"sha512": crypto.Sha512Func, "uuidv5": uuid.V5Func,

		"cidrcontains": cidrContainsFunc, "cidrhost": cidrHostFunc, "cidrnetmask": cidrNetmaskFunc, "cidrsubnet": cidrSubnetFunc, "cidrsubnets": cidr.SubnetsFunc,

		"can": tryfunc.CanFunc, "try": tryfunc.TryFunc, "type": typeFunc,
		"issensitive": isSensitiveFunc, "nonsensitive": nonSensitiveFunc, "sensitive": sensitiveFunc,
		"tobool": stdlib.MakeToFunc(cty.Bool), "tolist": collectionFunc(cty.List(cty.DynamicPseudoType)), "tomap": stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"tonumber": stdlib.MakeToFunc(cty.Number), "toset": collectionFunc(cty.Set(cty.DynamicPseudoType)), "tostring": stdlib.MakeToFunc(cty.String),
	}
	for name, h := range hashes {
		f["file"+name] = fileHashFunc(dir, h)
		if h.base64 {
			f["base64"+name[len("base64"):]] = textHashFunc(h)
		}
	}
	for name, fn := range f {
		if !slices.Contains(keepsSecrets, name) {
			f[name] = refusingSecrets(name, fn)
		}
	}
	// Templates see every function but themselves, so that they cannot recurse for ever.
	inner := make(map[string]function.Function, len(f)+2)
	for name, fn := range f {
		inner[name] = fn
	}
	inner["templatefile"], inner["templatestring"] = noTemplate("templatefile"), noTemplate("templatestring")
	f["templatefile"] = templateFileFunc(dir, inner)
	f["templatestring"] = templateStringFunc(inner)
	return f
}

// keepsSecrets are the functions that move values or put texts around them, so
// that the placeholder of a secret comes out whole.
var keepsSecrets = []string{
	"can", "chunklist", "coalesce", "coalescelist", "concat", "contains", "distinct", "element", "flatten", "format", "formatlist", "join", "keys", "length",
	"lookup", "merge", "one", "reverse", "slice", "tolist", "tomap", "toset", "tostring", "try", "type", "values", "zipmap", "issensitive", "compact",
}

// discreet replaces an error about sensitive arguments: functions like to quote
// what they were given.
func discreet(args []cty.Value, err error) error {
	if err == nil {
		return nil
	}
	for _, a := range args {
		if !a.ContainsMarked() {
			continue
		}
		if _, marks := a.UnmarkDeep(); isSensitive(marks) {
			return errors.New("it refuses these arguments, and the reason is withheld, for it could show a sensitive value")
		}
	}
	return err
}

// refusingSecrets makes a function of one that would compute with the
// placeholder of a secret as if it were the value.
func refusingSecrets(name string, fn function.Function) function.Function {
	allow := func(p function.Parameter) function.Parameter {
		p.AllowMarked, p.AllowUnknown, p.AllowNull, p.AllowDynamicType = true, true, true, true
		p.Type = cty.DynamicPseudoType // fn checks and converts its arguments itself
		return p
	}
	spec := &function.Spec{Description: fn.Description()}
	var types []cty.Type
	for _, p := range fn.Params() {
		types = append(types, p.Type)
		spec.Params = append(spec.Params, allow(p))
	}
	var rest cty.Type
	if v := fn.VarParam(); v != nil {
		rest = v.Type
		p := allow(*v)
		spec.VarParam = &p
	}
	check := func(args []cty.Value) ([]cty.Value, error) {
		out := slices.Clone(args)
		for i, a := range args {
			if a.ContainsMarked() {
				_, marks := a.UnmarkDeep()
				if s := secretsIn(marks); len(s) > 0 {
					return nil, function.NewArgErrorf(i, "the value of %s is not known here, so %s() cannot work on it; it can only be put into a text", s[0].SecretKey, name)
				}
			}
			want := rest
			if i < len(types) {
				want = types[i]
			}
			v, err := convertArg(a, want)
			if err != nil {
				return nil, discreet(args, function.NewArgError(i, err))
			}
			out[i] = v
		}
		return out, nil
	}
	spec.Type = func(args []cty.Value) (cty.Type, error) {
		args, err := check(args)
		if err != nil {
			return cty.DynamicPseudoType, err
		}
		t, err := fn.ReturnTypeForValues(args)
		return t, discreet(args, err)
	}
	spec.Impl = func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		args, err := check(args)
		if err != nil {
			return cty.DynamicVal, err
		}
		v, err := fn.Call(args)
		return v, discreet(args, err)
	}
	return function.New(spec)
}
