package api_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/berthdev/berth/cluster/client"
	"github.com/berthdev/berth/cluster/object"
	"github.com/berthdev/berth/cluster/pki"
)

// agent is a fake node agent with a certificate of the given name.
func (w *world) agent(name string, h http.HandlerFunc) string {
	w.t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", w.identity(name, "node").MutualTLS(pki.RoleMaster))
	if err != nil {
		w.t.Fatal(err)
	}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l) // ends by Close
	}()
	w.t.Cleanup(func() { _ = s.Close(); <-done })
	return l.Addr().String()
}

func readyNode(name, address string) *object.Node {
	return &object.Node{Meta: object.Meta{Kind: object.KindNode, Name: name}, Status: object.NodeStatus{Condition: object.NodeReady, Address: address}}
}

func TestLogs(t *testing.T) {
	w, _, _ := secretWorld(t)
	ctx := context.Background()
	asked := make(chan string, 10)
	addr := w.agent("n1", func(rw http.ResponseWriter, r *http.Request) {
		asked <- r.URL.String() + " " + r.Header.Get("Authorization")
		_, _ = io.WriteString(rw, "hello\n")
	})
	impostor := w.agent("n9", func(rw http.ResponseWriter, r *http.Request) { t.Error("an impostor was asked") })
	w.write(readyNode("n1", addr), readyNode("n2", impostor))
	c := w.as("pat", "planner")
	web := object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}
	r, err := c.Logs(ctx, web, client.LogOptions{Tail: 10, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil || string(b) != "hello\n" {
		t.Errorf("%q %v", b, err)
	}
	_ = r.Close()
	if got := <-asked; got != "/v1/logs/default/web-0/web?follow=true&tail=10 " {
		t.Errorf("asked for %q", got)
	}
	_, err = c.Logs(ctx, web, client.LogOptions{Container: "wep"})
	if e := wantCode(t, err, object.CodeNotFound); e.Hint != `Did you mean "web"?` {
		t.Errorf("%q", e.Hint)
	}
	_, err = c.Logs(ctx, object.Ref{Kind: object.KindPod, Namespace: "default", Name: "api-0"}, client.LogOptions{})
	if e := wantCode(t, err, object.CodeUnavailable); !strings.Contains(e.Message, `expected node "n2"`) {
		t.Errorf("%q", e.Message)
	}
	_, err = c.Logs(ctx, object.Ref{Kind: object.KindPod, Namespace: "default", Name: "none"}, client.LogOptions{})
	wantCode(t, err, object.CodeNotFound)
}

func TestImagesGoToEveryReadyNode(t *testing.T) {
	w, ctx := newWorld(t, "m1"), context.Background()
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("an archive")), nil }
	_, err := w.admin().ImportImage(ctx, open)
	wantCode(t, err, object.CodeUnavailable)
	good := func(rw http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || (r.Method == "POST" && string(b) != "an archive") {
			t.Errorf("%q %v", b, err)
		}
		_, _ = io.WriteString(rw, `{"node":"whatever","images":[{"name":"web:1","size":"10Mi"}]}`)
	}
	full := func(rw http.ResponseWriter, r *http.Request) {
		rw.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(rw, `{"error":{"code":"unavailable","message":"the disk is full"}}`)
	}
	w.write(readyNode("n1", w.agent("n1", good)), readyNode("n2", w.agent("n2", full)),
		&object.Node{Meta: object.Meta{Kind: object.KindNode, Name: "n3"}, Status: object.NodeStatus{Condition: object.NodeLost}})
	got, err := w.admin().ImportImage(ctx, open)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v %v", got, err)
	}
	if got[0].Node != "n1" || len(got[0].Images) != 1 || got[0].Error != nil {
		t.Errorf("%+v", got[0])
	}
	if got[1].Error == nil || got[1].Error.Message != "the disk is full" {
		t.Errorf("%+v", got[1])
	}
	if got, err = w.as("pat", "planner").Images(ctx); err != nil || len(got) != 2 || got[0].Images[0].Name != "web:1" {
		t.Errorf("%+v %v", got, err)
	}
	empty := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }
	_, err = w.admin().ImportImage(ctx, empty)
	wantCode(t, err, object.CodeInvalid)
}

// A stream to a pod goes by whatever master is asked to the agent of its node.
func TestForward(t *testing.T) {
	w, _, _ := secretWorld(t)
	ctx := context.Background()
	addr := w.agent("n1", func(rw http.ResponseWriter, r *http.Request) {
		if got := r.URL.String() + " " + r.Header.Get("Upgrade"); got != "/v1/forward/default/web-0?port=8080 "+object.ForwardProtocol {
			t.Errorf("asked for %q", got)
		}
		c, rest, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+object.ForwardProtocol+"\r\n\r\n")
		line, _ := rest.ReadString('\n')
		_, _ = io.WriteString(c, "echo "+line)
	})
	w.write(readyNode("n1", addr))
	web := object.Ref{Kind: object.KindPod, Namespace: "default", Name: "web-0"}
	stream, err := w.admin().Forward(ctx, web, 8080)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stream, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(stream); string(b) != "echo hello\n" {
		t.Errorf("%q %v", b, err)
	}
	_ = stream.Close()
	_, err = w.as("pat", "planner").Forward(ctx, web, 8080)
	wantCode(t, err, object.CodeForbidden)
	_, err = w.admin().Forward(ctx, object.Ref{Kind: object.KindPod, Namespace: "default", Name: "none"}, 8080)
	wantCode(t, err, object.CodeNotFound)
}

// A follower that lags knew of one node out of two just after `berth dev up`, and
// an import left the other out without a word.
func TestImagesAtAFollowerCatchUpFirst(t *testing.T) {
	w := newWorld(t, "m1", "m2")
	w.write(readyNode("n1", w.agent("n1", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, `{"images":[{"name":"web:1","size":"10Mi"}]}`)
	})))
	c := w.at(client.Config{Addrs: w.addrs[1:], TLS: w.identity("ops", "admin").ClientTLS(pki.RoleMaster, "")})
	if got, err := c.Images(context.Background()); err != nil || len(got) != 1 {
		t.Fatalf("%+v %v", got, err)
	}
	if want := []string{"m2"}; !slices.Equal(w.shared.waited, want) {
		t.Errorf("caught up: %v, want %v", w.shared.waited, want)
	}
}
