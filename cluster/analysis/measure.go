package analysis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheus "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/tidwall/gjson"

	"github.com/berthdev/berth/cluster/object"
)

// maxBody is how much of an answer is read; more is no answer to one question.
const maxBody = 1 << 20

// Sources asks what is outside the cluster's state. Its methods may be called at once.
type Sources struct{ transport *http.Transport }

// NewSources makes the connections that questions share.
func NewSources() *Sources { return &Sources{connect(nil)} }

// connect makes the connections to servers that the given authorities vouch for; nil:
// those that the machine trusts.
func connect(roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Control: outside}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: dialer.DialContext, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true, MaxResponseHeaderBytes: 64 << 10, TLSClientConfig: &tls.Config{RootCAs: roots},
	}
}

// Close ends connections that are idle.
func (s *Sources) Close() { s.transport.CloseIdleConnections() }

// outside refuses link-local addresses. Whoever may write a deployment makes a master
// ask for them, and clouds tell a machine's own credentials there.
func outside(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err == nil && at.Addr().Unmap().IsLinkLocalUnicast() {
		return errors.New("link-local addresses are not asked")
	}
	return nil
}

// Measure asks the source of a check. It returns within the source's timeout, or when
// ctx ends; whatever goes wrong is a measurement that tells nothing. open is asked for
// the secrets that the question carries, and nothing of them is in the answer.
func (s *Sources) Measure(ctx context.Context, c *object.Check, about object.Subject, open Open) object.Measurement {
	var within object.Duration
	var ask func(context.Context, *asker, *object.Check, object.Subject) object.Measurement
	switch {
	case c.HTTP != nil:
		within, ask = c.HTTP.Timeout, overHTTP
	case c.Prometheus != nil:
		within, ask = c.Prometheus.Timeout, ofPrometheus
	default:
		return object.Inconclusive("it has no source that could be asked")
	}
	by, err := s.asker(c.Access(), open)
	if err != nil {
		return object.Inconclusive("%v", err)
	}
	defer by.close()
	ctx, cancel := context.WithTimeout(ctx, within.D())
	defer cancel()
	return ask(ctx, by, c, about)
}

func overHTTP(ctx context.Context, by *asker, c *object.Check, about object.Subject) object.Measurement {
	h := c.HTTP
	var body io.Reader
	if h.Body != "" {
		body = strings.NewReader(about.In(h.Body))
	}
	q, err := http.NewRequestWithContext(ctx, h.Method, about.In(h.URL), body)
	if err != nil {
		return object.Inconclusive("%s", by.cause(err))
	}
	if body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	a, err := by.client.Do(q)
	if err != nil {
		return object.Inconclusive("%s cannot be asked: %s", q.URL.Host, by.cause(err))
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, maxBody+1))
	if err != nil {
		return object.Inconclusive("the answer of %s broke off: %s", q.URL.Host, by.cause(err))
	}
	told := fmt.Sprintf("status %d", a.StatusCode)
	fits := a.StatusCode/100 == 2
	switch {
	case h.Status != 0 && a.StatusCode != h.Status:
		return object.Measurement{Result: object.ResultFailed, Value: told, Message: fmt.Sprintf("%s answered with %s, not %d", q.URL.Host, told, h.Status)}
	case h.JSON == "" && (fits || h.Status != 0):
		return object.Measurement{Result: object.ResultPassed, Value: told}
	case h.JSON == "":
		return object.Measurement{Result: object.ResultFailed, Value: told, Message: fmt.Sprintf("%s answered with %s", q.URL.Host, told)}
	case !fits && h.Status == 0:
		return object.Inconclusive("%s answered with %s", q.URL.Host, told)
	case len(text) > maxBody:
		return object.Inconclusive("the answer of %s is larger than %s", q.URL.Host, object.Bytes(maxBody))
	case !gjson.ValidBytes(text):
		return object.Inconclusive("the answer of %s is not JSON", q.URL.Host)
	}
	r, err := reading(gjson.GetBytes(text, h.JSON), h.JSON)
	if err != nil {
		return object.Inconclusive("the answer of %s %v", q.URL.Host, err)
	}
	return c.Judge(by.hide(r))
}

// longest is how much of a text in an answer is shown to people.
const longest = 80

// reading is a value of a JSON document.
func reading(v gjson.Result, path string) (object.Reading, error) {
	switch v.Type {
	case gjson.Number:
		return object.Reading{Number: v.Num}, nil
	case gjson.String:
		if v.Str == "" {
			return object.Reading{}, fmt.Errorf("has an empty text at %s", path)
		}
		if len(v.Str) > longest {
			return object.Reading{}, fmt.Errorf("has a text of %d bytes at %s, which is no value to compare", len(v.Str), path)
		}
		return object.Reading{Text: v.Str}, nil
	case gjson.True, gjson.False:
		return object.Reading{Text: v.Raw, Words: v.Raw}, nil
	}
	if !v.Exists() {
		return object.Reading{}, fmt.Errorf("has nothing at %s", path)
	}
	return object.Reading{}, fmt.Errorf("has neither a number, a text nor a truth value at %s", path)
}

func ofPrometheus(ctx context.Context, by *asker, c *object.Check, about object.Subject) object.Measurement {
	p := c.Prometheus
	client, err := api.NewClient(api.Config{Address: p.Address, Client: by.client})
	if err != nil {
		return object.Inconclusive("%s", by.cause(err))
	}
	host := p.Address
	if u, err := url.Parse(p.Address); err == nil {
		host = u.Host
	}
	value, _, _, err := prometheus.NewAPI(client).Query(ctx, about.In(p.Query), time.Now())
	var said *prometheus.Error
	switch {
	case errors.As(err, &said) && said.Type != prometheus.ErrClient && said.Type != prometheus.ErrBadResponse:
		return object.Inconclusive("%s answered: %s: %s", host, said.Type, by.clip(said.Msg))
	case errors.As(err, &said):
		return object.Inconclusive("%s did not answer as a Prometheus does: %s", host, by.clip(said.Msg))
	case err != nil:
		return object.Inconclusive("%s cannot be asked: %s", host, by.cause(err))
	}
	var number float64
	switch v := value.(type) {
	case *model.Scalar:
		number = float64(v.Value)
	case model.Vector:
		if len(v) != 1 {
			return object.Inconclusive("the query has %d values at %s, one is needed", len(v), host)
		}
		number = float64(v[0].Value)
	default:
		return object.Inconclusive("the query has a %s as its result, one value is needed", value.Type())
	}
	return c.Judge(by.hide(object.Reading{Number: number}))
}

// cause is an error without the URL around it, which the reader knows.
func (by *asker) cause(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return by.clip(err.Error())
}

// clip is as much of a text from outside as people are shown.
func (by *asker) clip(text string) string {
	text = by.mask(text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 2*longest {
		text = strings.ToValidUTF8(text[:2*longest], "") + "…"
	}
	return text
}
