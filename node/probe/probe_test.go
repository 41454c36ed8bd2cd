package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berthdev/berth/cluster/object"
)

// scripted answers attempts from a function of the time since the start.
func scripted(good func(at time.Duration) bool) (*Prober, *int) {
	start, n := time.Now(), new(int)
	p := New(0)
	p.try = func(context.Context, string, *object.Probe, Exec) error {
		*n++
		if good(time.Since(start)) {
			return nil
		}
		return errors.New("refused")
	}
	return p, n
}

func TestVerdicts(t *testing.T) {
	spec := object.Probe{Period: object.Duration(10 * time.Second), Timeout: object.Duration(time.Second), Success: 1, Failure: 3}
	tests := []struct {
		name string
		spec func(*object.Probe)
		good func(time.Duration) bool
		want []string // verdicts with the period in which they fell
	}{
		{"good at once", nil, func(time.Duration) bool { return true }, []string{"0 good"}},
		{"good soon after the start", nil, func(at time.Duration) bool { return at > 400*time.Millisecond }, []string{"0 good"}},
		{"quick attempts are no failures", nil, func(time.Duration) bool { return false }, []string{"1 bad"}},
		{"goes bad and comes back", nil,
			func(at time.Duration) bool { return at < 15*time.Second || at > 65*time.Second },
			[]string{"0 good", "3 bad", "6 good"}},
		{"a single failure is forgiven", nil,
			func(at time.Duration) bool { return at < 15*time.Second || at > 25*time.Second }, []string{"0 good"}},
		{"delay", func(p *object.Probe) { p.Delay = object.Duration(30 * time.Second) }, func(time.Duration) bool { return true }, []string{"3 good"}},
		{"several successes", func(p *object.Probe) { p.Success = 3 }, func(time.Duration) bool { return true }, []string{"1 good"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := spec
				if tt.spec != nil {
					tt.spec(&s)
				}
				p, _ := scripted(tt.good)
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
				defer cancel()
				start := time.Now()
				var got []string
				p.Watch(ctx, "pod/c", "10.0.0.1", s, nil, func(good bool, why string) {
					word := "good"
					if !good {
						word = "bad"
						if why != "refused" {
							t.Errorf("why = %q", why)
						}
					}
					got = append(got, fmt.Sprintf("%d %s", int(time.Since(start)/(10*time.Second)), word))
				})
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// TestPace: after the start, attempts are one period apart.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, n := scripted(func(time.Duration) bool { return true })
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		p.Watch(ctx, "k", "", object.Probe{Period: object.Duration(time.Second)}, nil, func(bool, string) {})
		if *n < 99 || *n > 102 {
			t.Errorf("%d attempts in 100 periods", *n)
		}
	})
}

func TestSpreadDependsOnTheKeyOnly(t *testing.T) {
	seen := map[time.Duration]bool{}
	for i := range 100 {
		k := fmt.Sprint("pod-", i)
		d := spread(k, time.Second)
		if d != spread(k, time.Second) || d < 0 || d >= time.Second {
			t.Fatalf("spread(%s) = %s", k, d)
		}
		seen[d.Truncate(100*time.Millisecond)] = true
	}
	if len(seen) < 8 {
		t.Errorf("100 keys fall into %d of 10 tenths", len(seen))
	}
}

func TestLimitAndTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(1)
		p.try = func(ctx context.Context, _ string, _ *object.Probe, _ Exec) error {
			<-ctx.Done() // hangs
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		spec := object.Probe{Exec: &object.ExecProbe{}, Period: object.Duration(time.Second), Timeout: object.Duration(500 * time.Millisecond), Failure: 1}
		verdicts := make(chan string, 10)
		for i := range 2 {
			go p.Watch(ctx, fmt.Sprint(i), "", spec, nil, func(good bool, why string) { verdicts <- fmt.Sprint(good, " ", why) })
		}
		for range 2 {
			if got := <-verdicts; got != "false no answer within 500ms" {
				t.Error(got)
			}
		}
		<-ctx.Done()
	})
}

// Containers that do not answer must not take from the others the time in which
// they are asked.
func TestHangingProbesKeepNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(1)
		p.try = func(ctx context.Context, address string, _ *object.Probe, _ Exec) error {
			if address == "hangs" {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		var watches sync.WaitGroup
		watch := func(address string, timeout time.Duration, verdict func(bool, string)) {
			spec := object.Probe{TCP: &object.TCPProbe{Port: "80"}, Period: object.Duration(time.Second), Timeout: object.Duration(timeout)}
			watches.Go(func() { p.Watch(ctx, address, address, spec, nil, verdict) })
		}
		for range 3 {
			watch("hangs", time.Hour, func(bool, string) {})
		}
		synctest.Wait()
		good := make(chan bool, 1)
		watch("answers", time.Second, func(g bool, _ string) { good <- g })
		synctest.Wait()
		select {
		case g := <-good:
			if !g {
				t.Error("bad")
			}
		default:
			t.Error("it waits for those that hang")
		}
		cancel()
		watches.Wait()
	})
}

// A period shorter than an attempt takes must neither keep a processor busy nor
// the probe from its end.
func TestShortestPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, n := scripted(func(time.Duration) bool { time.Sleep(time.Millisecond); return true })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		p.Watch(ctx, "k", "", object.Probe{Period: 1}, nil, func(bool, string) {})
		if *n < 90 || *n > 110 {
			t.Errorf("%d attempts in 10 s", *n)
		}
	})
}

func TestTry(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.Header.Get("X-A") != "b" || r.Host != "shop.example" {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/moved":
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		default:
			http.Error(w, "not yet\nmore", http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	u, _ := url.Parse(srv.URL)
	port := object.PortRef(u.Port())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := object.PortRef(strings.TrimPrefix(l.Addr().String(), "127.0.0.1:"))
	l.Close()
	headers := map[string]string{"X-A": "b", "Host": "shop.example"}
	tests := []struct {
		name  string
		probe object.Probe
		want  string // part of the error; empty: success
	}{
		{"http", object.Probe{HTTP: &object.HTTPProbe{Path: "/ok", Port: port, Headers: headers}}, ""},
		{"http redirect", object.Probe{HTTP: &object.HTTPProbe{Path: "/moved", Port: port}}, ""},
		{"http 503", object.Probe{HTTP: &object.HTTPProbe{Path: "/", Port: port}}, "503 Service Unavailable: not yet"},
		{"http closed", object.Probe{HTTP: &object.HTTPProbe{Path: "/", Port: closed}}, "connection refused"},
		{"tcp", object.Probe{TCP: &object.TCPProbe{Port: port}}, ""},
		{"tcp closed", object.Probe{TCP: &object.TCPProbe{Port: closed}}, "connection refused"},
		{"exec", object.Probe{Exec: &object.ExecProbe{Command: []string{"true"}}}, ""},
		{"exec fails", object.Probe{Exec: &object.ExecProbe{Command: []string{"false"}}}, "exit code 1"},
		{"nothing", object.Probe{}, "none of http, tcp, exec"},
	}
	exec := func(_ context.Context, command []string) error {
		if command[0] == "true" {
			return nil
		}
		return errors.New("exit code 1")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Try(t.Context(), "127.0.0.1", &tt.probe, exec)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
