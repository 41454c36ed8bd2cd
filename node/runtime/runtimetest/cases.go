package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/berthdev/berth/node/runtime/container"
)

var logTests = map[string]func(*Pod){
	"LogStreams": func(p *Pod) {
		p.End(p.Start(p.Spec("job", "both")).ID)
		got := map[string]string{}
		for l, err := range p.Logs(p.TB.Context(), container.LogQuery{Pod: p.Pod, Container: "job"}) {
			if err != nil || l.Time.IsZero() || l.Partial {
				p.Errorf("%+v, %v", l, err)
			}
			got[l.Stream] = l.Text
		}
		if got["stdout"] != "to stdout" || got["stderr"] != "to stderr" {
			p.Errorf("log %q", got)
		}
	},
	"LogLastLineWithoutNewline": func(p *Pod) {
		if _, log := p.Run(p.Spec("job", "raw", "no newline")); !slices.Equal(log, []string{"no newline"}) {
			p.Errorf("log %q", log)
		}
	},
	"LogTailAndPrevious": func(p *Pod) {
		p.Run(p.Spec("job", "count", "20"))
		second := p.Spec("job", "say", "again")
		second.Attempt = 1
		p.Run(second)
		if log := p.Log(container.LogQuery{Container: "job"}); !slices.Equal(log, []string{"again"}) {
			p.Errorf("log %q", log)
		}
		if log := p.Log(container.LogQuery{Container: "job", Previous: true, Tail: 2}); !slices.Equal(log, []string{"line 18", "line 19"}) {
			p.Errorf("previous log %q", log)
		}
		if log := p.Log(container.LogQuery{Container: "job", Since: time.Now().Add(time.Hour)}); len(log) != 0 {
			p.Errorf("log of the future %q", log)
		}
	},
	"LogFollowEnds": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		p.AwaitLine("web", "ready")
		var log []string
		for l, err := range p.Logs(p.TB.Context(), container.LogQuery{Pod: p.Pod, Container: "web", Follow: true}) {
			if err != nil {
				p.Fatal(err)
			}
			if log = append(log, l.Text); len(log) == 1 {
				go func() { _ = p.Stop(context.Background(), s.ID, "", time.Minute) }()
			}
		}
		if !slices.Equal(log, []string{"ready", "got terminated"}) {
			p.Errorf("followed %q", log)
		}
	},
	"LogMissing": func(p *Pod) {
		var missing *container.NotFoundError
		for _, err := range p.Logs(p.TB.Context(), container.LogQuery{Pod: p.Pod, Container: "web"}) {
			if !errors.As(err, &missing) {
				p.Errorf("error %v", err)
			}
		}
		if missing == nil {
			p.Error("no error for a log that is not there")
		}
	},
}

var execTests = map[string]func(*Pod){
	"ExecExitCodeAndOutput": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		got, err := p.Exec(p.TB.Context(), s.ID, []string{"/program", "both"}, patience)
		if err != nil || got.ExitCode != 0 || string(got.Stdout) != "to stdout\n" || string(got.Stderr) != "to stderr\n" {
			p.Errorf("%+v, %v", got, err)
		}
		got, err = p.Exec(p.TB.Context(), s.ID, []string{"/program", "exit", "3"}, patience)
		if err != nil || got.ExitCode != 3 {
			p.Errorf("%+v, %v", got, err)
		}
		got, err = p.Exec(p.TB.Context(), s.ID, []string{"/missing"}, patience)
		if err != nil || got.ExitCode == 0 {
			p.Errorf("a missing program: %+v, %v", got, err)
		}
	},
	"ExecTimeout": func(p *Pod) {
		s := p.Start(p.Spec("web", "wait"))
		if _, err := p.Exec(p.TB.Context(), s.ID, []string{"/program", "stubborn"}, 100*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
			p.Errorf("error %v", err)
		}
		if got, err := p.Exec(p.TB.Context(), s.ID, []string{"/program", "exit", "0"}, patience); err != nil || got.ExitCode != 0 {
			p.Errorf("afterwards: %+v, %v", got, err)
		}
	},
	"ExecNotRunning": func(p *Pod) {
		s := p.Start(p.Spec("job", "exit", "0"))
		p.End(s.ID)
		var missing *container.NotFoundError
		if _, err := p.Exec(p.TB.Context(), s.ID, []string{"/program"}, patience); !errors.As(err, &missing) {
			p.Errorf("error %v", err)
		}
	},
}

var imageTests = map[string]func(*Pod){
	"ImagePolicies": func(p *Pod) {
		for _, name := range []string{Image, "docker.io/" + Image} {
			for _, policy := range []string{container.PullMissing, container.PullNever} {
				got, err := p.PullImage(p.TB.Context(), name, nil, policy)
				if err != nil || got.Name != "docker.io/"+Image || got.Digest == "" {
					p.Errorf("%s %s: %+v, %v", policy, name, got, err)
				}
			}
		}
		for name, want := range map[string]container.ImageFault{"berth-test/other:1": container.ImageAbsent, "Not A Name": container.ImageInvalid} {
			_, err := p.PullImage(p.TB.Context(), name, nil, container.PullNever)
			var fault *container.ImageError
			if !errors.As(err, &fault) || fault.Fault != want || fault.Hint == "" {
				p.Errorf("%s: %v, want %s with a hint", name, err, want)
			}
		}
	},
	"ImageList": func(p *Pod) {
		list, err := p.ListImages(p.TB.Context())
		if err != nil {
			p.Fatal(err)
		}
		i := slices.IndexFunc(list, func(i container.Image) bool { return i.Name == "docker.io/"+Image })
		if i < 0 || list[i].Size <= 0 || list[i].Used.IsZero() || !strings.HasPrefix(list[i].Digest, "sha256:") {
			p.Errorf("list %+v", list)
		}
	},
	"ImagePinned": func(p *Pod) {
		have, err := p.PullImage(p.TB.Context(), Image, nil, container.PullNever)
		if err != nil {
			p.Fatal(err)
		}
		s := p.Spec("web", "wait")
		s.Image = Image + "@" + have.Digest
		for _, policy := range []string{container.PullMissing, container.PullNever} {
			if got, err := p.PullImage(p.TB.Context(), s.Image, nil, policy); err != nil || got.Digest != have.Digest || got.Pulled {
				p.Errorf("%s: %+v, %v", policy, got, err)
			}
		}
		if started := p.Start(s); !strings.HasSuffix(started.Image, "@"+have.Digest) {
			p.Errorf("it runs %s, want %s", started.Image, have.Digest)
		}
		other := "sha256:" + strings.Repeat("0", 64)
		_, err = p.PullImage(p.TB.Context(), Image+"@"+other, nil, container.PullNever)
		var fault *container.ImageError
		if !errors.As(err, &fault) || fault.Fault != container.ImageAbsent || !strings.Contains(fault.Hint, have.Digest) || !strings.Contains(fault.Hint, other) {
			p.Errorf("%v, want both digests told", err)
		}
	},
	"ImageBadArchive": func(p *Pod) {
		_, err := p.ImportImage(p.TB.Context(), strings.NewReader("this is not an archive"))
		var fault *container.ImageError
		if !errors.As(err, &fault) || fault.Fault != container.ImageInvalid {
			p.Errorf("error %v", err)
		}
	},
}

// kernelTests need real containers.
var kernelTests = map[string]func(*Pod){
	"KernelEnvironment": func(p *Pod) {
		for i, c := range []struct{ key, want string }{{"FROM", "image"}, {"BOTH", "container"}, {"OWN", "a=b"}} {
			s := p.Spec("job", "env", c.key)
			s.Env, s.Attempt = []string{"BOTH=container", "OWN=a=b"}, i
			if _, log := p.Run(s); !slices.Equal(log, []string{c.want}) {
				p.Errorf("%s is %q, want %q", c.key, log, c.want)
			}
		}
	},
	"KernelUser": func(p *Pod) {
		for i, c := range []struct{ user, want string }{
			{"", "0 0 [0]"}, {"7:8", "7 8 [8]"}, {"alice", "1234 2345 [2345 3456]"}, {"1234", "1234 2345"}, {"alice:extra", "1234 3456"},
		} {
			s := p.Spec("job", "id")
			s.User, s.Attempt = c.user, i
			if _, log := p.Run(s); len(log) != 1 || !strings.HasPrefix(log[0]+" ", strings.TrimSuffix(c.want, "[0]")) {
				p.Errorf("user %q is %q, want %q", c.user, log, c.want)
			}
		}
	},
	"KernelWorkDirAndHostname": func(p *Pod) {
		s := p.Spec("cwd", "cwd")
		s.WorkDir = "/data"
		if _, log := p.Run(s); !slices.Equal(log, []string{"/data"}) {
			p.Errorf("working directory %q", log)
		}
		s = p.Spec("host", "hostname")
		s.Hostname = "my-pod-1"
		if _, log := p.Run(s); !slices.Equal(log, []string{"my-pod-1"}) {
			p.Errorf("host name %q", log)
		}
		if p.Namespaces != nil {
			s = p.Spec("shares", "hostname")
			s.Namespaces = p.Namespaces(p.TB, "my-pod-2")
			if _, log := p.Run(s); !slices.Equal(log, []string{"my-pod-2"}) {
				p.Errorf("host name of the pod's namespace %q", log)
			}
		}
	},
	"KernelCommand": func(p *Pod) {
		s := p.Spec("job", "of", "args")
		s.Command = []string{"/program", "say", "command"}
		if _, log := p.Run(s); !slices.Equal(log, []string{"command of args"}) {
			p.Errorf("log %q", log)
		}
	},
	"KernelReadOnlyRoot": func(p *Pod) {
		s := p.Spec("job", "write", "/data/file", "x")
		if code, log := p.Run(s); code != 0 {
			p.Errorf("a writable root is not: %q", log)
		}
		s.ReadOnlyRoot, s.Attempt = true, 1
		if code, log := p.Run(s); code != 1 {
			p.Errorf("a read-only root was written: %q", log)
		}
	},
	"KernelMounts": func(p *Pod) {
		dir := p.TB.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "key"), []byte("of the node\n"), 0o644); err != nil {
			p.Fatal(err)
		}
		run := func(name string, m container.Mount, args ...string) (int, []string) {
			s := p.Spec(name, args...)
			s.Mounts = []container.Mount{m}
			return p.Run(s)
		}
		if _, log := run("dir", container.Mount{Source: dir, Target: "/data"}, "read", "/data/key"); !slices.Equal(log, []string{"of the node"}) {
			p.Errorf("directory: %q", log)
		}
		if _, log := run("file", container.Mount{Source: filepath.Join(dir, "key"), Target: "/data/file"}, "read", "/data/file"); !slices.Equal(log, []string{"of the node"}) {
			p.Errorf("file: %q", log)
		}
		if code, log := run("ro", container.Mount{Source: dir, Target: "/data", ReadOnly: true}, "write", "/data/new", "x"); code != 1 {
			p.Errorf("a read-only mount was written: %q", log)
		}
		if code, log := run("rw", container.Mount{Source: dir, Target: "/data"}, "write", "/data/new", "x"); code != 0 {
			p.Errorf("a mount was not written: %q", log)
		}
		if b, _ := os.ReadFile(filepath.Join(dir, "new")); string(b) != "x" {
			p.Errorf("the node sees %q", b)
		}
		tmpfs := container.Mount{Target: "/scratch", Tmpfs: true, Size: 64 << 10}
		if code, log := run("tmpfs", tmpfs, "write", "/scratch/a", "small"); code != 0 {
			p.Errorf("tmpfs: %q", log)
		}
		if code, _ := run("full", tmpfs, "write", "/scratch/a", strings.Repeat("x", 100<<10)); code != 1 {
			p.Error("a tmpfs took more than its size")
		}
	},
	"KernelCapabilities": func(p *Pod) {
		for i, c := range []struct {
			add, drop []string
			want      string
		}{
			{nil, []string{"ALL"}, "0000000000000000"},
			{[]string{"NET_ADMIN"}, []string{"ALL"}, "0000000000001000"},
			{[]string{"CAP_SYS_TIME"}, nil, "00000000aa0425fb"},
			{nil, nil, "00000000a80425fb"},
		} {
			s := p.Spec("job", "status", "CapEff")
			s.CapAdd, s.CapDrop, s.Attempt = c.add, c.drop, i
			if _, log := p.Run(s); !slices.Equal(log, []string{c.want}) {
				p.Errorf("add %v, drop %v: %q, want %s", c.add, c.drop, log, c.want)
			}
		}
	},
	"KernelSeccomp": func(p *Pod) {
		s := p.Spec("job", "status", "Seccomp")
		for i, c := range []struct {
			unconfined, privileged bool
			want                   string
		}{{false, false, "2"}, {true, false, "0"}, {false, true, "0"}} {
			s.Unconfined, s.Privileged, s.Attempt = c.unconfined, c.privileged, i
			if _, log := p.Run(s); !slices.Equal(log, []string{c.want}) {
				p.Errorf("%+v: %q", c, log)
			}
		}
		s = p.Spec("privs", "status", "NoNewPrivs")
		if _, log := p.Run(s); !slices.Equal(log, []string{"1"}) {
			p.Errorf("no new privileges: %q", log)
		}
	},
	"KernelMemoryLimit": func(p *Pod) {
		s := p.Spec("job", "eat")
		s.Resources.MemoryLimit = 32 << 20
		started := p.Start(s)
		if e := p.End(started.ID); !e.OOM || e.ExitCode != 137 {
			p.Errorf("event %+v, want out of memory and 137", e)
		}
		if st, _ := p.Status(started.ID); !st.OOM {
			p.Errorf("status %+v", st)
		}
	},
	"KernelPIDsLimit": func(p *Pod) {
		s := p.Spec("job", "threads")
		s.Resources.PIDsLimit = 40
		if code, log := p.Run(s); code == 0 {
			p.Errorf("no limit: %q", log)
		}
	},
	"KernelCPULimit": func(p *Pod) {
		s := p.Spec("job", "wait")
		s.Resources.CPU, s.Resources.CPULimit = 100, 250
		p.Start(s)
	},
	"KernelSharedNetwork": func(p *Pod) {
		if p.Namespaces == nil {
			p.Skip("this runtime has no namespaces")
		}
		ns := p.Namespaces(p.TB, "shared")
		server, client := p.Spec("server", "listen", "127.0.0.1:80"), p.Spec("client", "dial", "127.0.0.1:80")
		server.Namespaces, client.Namespaces = ns, ns
		p.Start(server)
		p.AwaitLine("server", "ready")
		if _, log := p.Run(client); !slices.Equal(log, []string{"hello"}) {
			p.Errorf("the containers of a pod do not share localhost: %q", log)
		}
		other := p.Spec("other", "dial", "127.0.0.1:80")
		other.Namespaces = p.Namespaces(p.TB, "alone")
		if code, log := p.Run(other); code == 0 {
			p.Errorf("another pod shares it: %q", log)
		}
	},
	"KernelManyLines": func(p *Pod) {
		const n = 50_000
		_, log := p.Run(p.Spec("job", "count", fmt.Sprint(n)))
		for i, l := range log {
			if l != fmt.Sprintf("line %d", i) {
				p.Fatalf("record %d is %q", i, l)
			}
		}
		if len(log) != n {
			p.Errorf("%d records, want %d", len(log), n)
		}
	},
}
