package modules

import (
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/berthdev/berth/cluster/object"
)

// Source is where a module is: a git repository, what of its history, and a
// directory inside.
type Source struct {
	URL string // as git takes it
	Ref string // tag, branch or commit; empty: the default branch
	Dir string // behind //, with slashes; empty: the repository itself
}

// Package is the source without the directory: what is fetched, and pinned, as
// a whole.
func (s Source) Package() string {
	if s.Ref == "" {
		return "git::" + s.URL
	}
	sep := "?"
	if strings.Contains(s.URL, "?") {
		sep = "&"
	}
	return "git::" + s.URL + sep + "ref=" + url.QueryEscape(s.Ref)
}

// hosts are the short forms, with how many parts of the path name the repository.
var hosts = []string{"github.com", "gitlab.com", "bitbucket.org"}

// scp is ssh's short form: git@example.com:net/web.git.
var scp = regexp.MustCompile(`^([A-Za-z0-9._-]+@)([A-Za-z0-9.-]+):([^/].*)$`)

const known = "There are: git::https://HOST/REPO.git//DIR?ref=v1, git::ssh://…, git::file://…, github.com/OWNER/REPO//DIR?ref=v1 (gitlab.com and bitbucket.org likewise), git@HOST:REPO.git, and directories that begin with ./ or ../."

// Parse reads a source in Terraform's forms for git.
func Parse(text string) (Source, error) {
	refused := func(message, hint string) (Source, error) {
		return Source{}, &object.Error{Code: object.CodeInvalid, Message: "the source " + text + " " + message, Hint: hint}
	}
	rest, forced := strings.CutPrefix(text, "git::")
	if !forced {
		short := false
		for _, h := range hosts {
			short = short || strings.HasPrefix(rest, h+"/")
		}
		switch {
		case short:
			rest = shorthand(rest)
			if rest == "" {
				return refused("names no repository", "Write it as github.com/OWNER/REPO//DIR?ref=v1.")
			}
		case scp.MatchString(rest):
		default:
			return refused("is of no known form", known)
		}
	}
	if m := scp.FindStringSubmatch(rest); m != nil && !strings.Contains(rest, "://") {
		rest = "ssh://" + m[1] + m[2] + "/" + m[3]
	}
	u, err := url.Parse(rest)
	if err != nil || u.Path == "" || u.Path == "/" {
		return refused("is no address of a repository", known)
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh" && u.Scheme != "file" && u.Scheme != "git":
		return refused("is of no known form", known)
	case u.Scheme != "file" && (u.Host == "" || strings.HasPrefix(u.Hostname(), "-")):
		return refused("names no host", known)
	}
	var s Source
	query := u.Query()
	s.Ref = query.Get("ref")
	query.Del("ref")
	u.RawQuery = query.Encode()
	if strings.HasPrefix(s.Ref, "-") || strings.ContainsAny(s.Ref, " ~^:?*[\\\x00\n") || strings.Contains(s.Ref, "..") {
		return refused("has a ref that is none: "+s.Ref, "A ref is a tag, a branch or a commit: ?ref=v1.2")
	}
	if before, after, ok := strings.Cut(u.Path, "//"); ok {
		u.Path, u.RawPath = before, ""
		clean := path.Clean("/" + after)
		if after != "" && clean != "/"+strings.TrimSuffix(after, "/") {
			return refused("has a directory that is none: "+after, "Behind // stands a directory of the repository, without . and ..")
		}
		s.Dir = strings.TrimPrefix(clean, "/")
	}
	s.URL = u.String()
	return s, nil
}

// shorthand is github.com/OWNER/REPO… as an address; a third part of the path
// without // is refused, for it would be somewhere else in Terraform.
func shorthand(text string) string {
	address, query, asked := strings.Cut(text, "?")
	address, dir, inside := strings.Cut(address, "//")
	parts := strings.Split(strings.TrimSuffix(address, "/"), "/")
	if len(parts) < 3 || parts[1] == "" || parts[2] == "" || parts[0] != "gitlab.com" && len(parts) > 3 {
		return ""
	}
	out := "https://" + strings.TrimSuffix(strings.Join(parts, "/"), ".git") + ".git"
	if inside {
		out += "//" + dir
	}
	if asked {
		out += "?" + query
	}
	return out
}
