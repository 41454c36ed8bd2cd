package ingress

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/berthdev/berth/cluster/object"
)

// calls is a server of gRPC's own test service.
type calls struct {
	grpc_testing.UnimplementedTestServiceServer
	entered chan struct{}
	gate    chan struct{}
}

func (c *calls) UnaryCall(ctx context.Context, q *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if s := q.ResponseStatus; s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "here"))
	return &grpc_testing.SimpleResponse{Payload: q.Payload}, nil
}

func (c *calls) EmptyCall(context.Context, *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	c.entered <- struct{}{}
	<-c.gate
	return &grpc_testing.Empty{}, nil
}

func (c *calls) FullDuplexCall(s grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	for {
		q, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&grpc_testing.StreamingOutputCallResponse{Payload: q.Payload}); err != nil {
			return err
		}
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	impl := &calls{entered: make(chan struct{}), gate: make(chan struct{})}
	server := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(server, impl)
	go server.Serve(l)
	t.Cleanup(server.Stop)

	w, a := newWorld(t), newAuthority(t)
	w.service("rpc", map[string]string{"rpc-1-0": l.Addr().String()})
	spec := secureSpec("rpc.example", "tls", false, object.IngressPath{Path: "/", Service: "rpc", Protocol: "h2c"})
	spec.Gzip = true
	w.ingress("rpc", spec)
	w.reads("rpc", "tls", a.issue(t, "rpc.example"))
	w.apply()
	waitFor(t, "the certificate", func() bool { _, err := w.served("rpc.example", a); return err == nil })
	for name, dial := range map[string]func() (*grpc.ClientConn, error){
		"tls": func() (*grpc.ClientConn, error) {
			return grpc.NewClient(w.secure(), grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(a.pool, "rpc.example")))
		},
		"h2c": func() (*grpc.ClientConn, error) {
			return grpc.NewClient(w.plain(), grpc.WithAuthority("rpc.example"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := grpc_testing.NewTestServiceClient(conn)
			ctx := t.Context()
			var trailer metadata.MD
			res, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{Payload: &grpc_testing.Payload{Body: make([]byte, 300_000)}}, grpc.Trailer(&trailer))
			if err != nil || len(res.Payload.Body) != 300_000 || len(trailer["x-trailer"]) != 1 {
				t.Fatalf("%v %v", err, trailer)
			}
			_, err = c.UnaryCall(ctx, &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.DataLoss), Message: "gone"}})
			if s := status.Convert(err); s.Code() != codes.DataLoss || s.Message() != "gone" {
				t.Fatalf("%v", err)
			}
			// Each message of a stream arrives before the next is sent.
			s, err := c.FullDuplexCall(ctx)
			if err != nil {
				t.Fatal(err)
			}
			say := func(n int) {
				t.Helper()
				if err := s.Send(&grpc_testing.StreamingOutputCallRequest{Payload: &grpc_testing.Payload{Body: make([]byte, n)}}); err != nil {
					t.Fatal(err)
				}
				m, err := s.Recv()
				if err != nil || len(m.Payload.Body) != n {
					t.Fatalf("%v", err)
				}
			}
			for n := range 5 {
				say(n)
			}
			spec.Headers = &object.HeaderRules{Response: map[string]string{"X-Dial": name}}
			w.ingress("rpc", spec)
			o := w.ingresses["rpc"].Clone().(*object.Ingress)
			o.Status.Secrets = map[string]string{"tls": w.secrets.all["shop/rpc"].Secrets["tls"].Digest}
			w.ingresses["rpc"] = o
			w.apply() // the stream lives on
			say(7)
			if err := s.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); !errors.Is(err, io.EOF) {
				t.Fatalf("%v", err)
			}
		})
	}

	// A call is waited for when its pod leaves, a stream is not.
	conn, err := grpc.NewClient(w.plain(), grpc.WithAuthority("rpc.example"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := grpc_testing.NewTestServiceClient(conn)
	stream, err := c.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := c.EmptyCall(t.Context(), &grpc_testing.Empty{}); done <- err }()
	<-impl.entered
	w.service("rpc", nil)
	w.apply()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.s.Drain(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a call is not waited for: %v", err)
	}
	close(impl.gate)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := w.s.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("the stream did not outlive its pod's readiness: %v", err)
	}
	// Without pods clients see Unavailable.
	if _, err := c.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("%v", err)
	}
}

// TestHTTPSUpstream speaks TLS to the pod.
func TestHTTPSUpstream(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.TLS == nil || r.Host != "h" {
			rw.WriteHeader(500)
		}
		_, _ = io.WriteString(rw, r.Proto)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": s.Listener.Addr().String()})
	w.ingress("shop", simple("h", object.IngressPath{Path: "/", Service: "web", Protocol: "https"}))
	w.apply()
	w.get("h", "/").want(t, 200, "HTTP/2.0")
}

// TestTrailers and answers in parts pass.
func TestTrailers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(rw, "body")
		rw.Header().Set("X-Sum", "42")
	}))
	t.Cleanup(s.Close)
	w := newWorld(t)
	w.service("web", map[string]string{"web-1-0": s.Listener.Addr().String()})
	w.ingress("shop", simple("h", to("/", "web")))
	w.apply()
	a := w.get("h", "/")
	if a.want(t, 200, "body"); a.Trailer.Get("X-Sum") != "42" {
		t.Errorf("%v", a.Trailer)
	}
}
