package ingress

import (
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/netip"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"

	"github.com/berthdev/berth/cluster/object"
)

// clientsKept bounds the memory of a rate limit: of more clients than that, those
// that have been silent the longest begin anew.
const clientsKept = 16384

// limiter counts the requests of clients.
type limiter struct {
	rule    object.RateLimit
	every   rate.Limit
	burst   int
	clients *lru.Cache[netip.Addr, *rate.Limiter]
}

func newLimiter(r object.RateLimit) *limiter {
	clients, _ := lru.New[netip.Addr, *rate.Limiter](clientsKept) // fails for sizes below 1 only
	l := &limiter{rule: r, every: rate.Limit(float64(r.Requests) / r.Per.D().Seconds()), burst: r.Burst, clients: clients}
	if l.burst <= 0 {
		l.burst = r.Requests
	}
	return l
}

// allow takes one request off a client's allowance, or tells how long to wait.
// Who has IPv6 has a whole /64 to ask from, so that counts as one client.
func (l *limiter) allow(client netip.Addr, now time.Time) (wait time.Duration, ok bool) {
	if client.Is6() {
		p, _ := client.WithZone("").Prefix(64) // 64 is in range
		client = p.Addr()
	}
	one, known := l.clients.Get(client)
	if !known {
		one = rate.NewLimiter(l.every, l.burst)
		if was, raced, _ := l.clients.PeekOrAdd(client, one); raced {
			one = was
		}
	}
	r := one.ReserveN(now, 1)
	if !r.OK() {
		return l.rule.Per.D(), false
	}
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
		return wait, false
	}
	return 0, true
}

// passwordsKept bounds the memory of passwords that have been checked.
const passwordsKept = 1024

// auth asks for a user and a password. bcrypt takes tens of milliseconds by
// design, so that what was right once is remembered, as a hash, for as long as the
// secret stays as it is.
type auth struct {
	realm   string
	users   map[string]string // nil: the secret is not there, and nobody gets in
	decoy   string            // a bcrypt hash if any user has one
	right   *lru.Cache[[sha256.Size]byte, struct{}]
	working chan struct{} // how many may compute bcrypt at once
}

func newAuth(realm string, users map[string]string) *auth {
	right, _ := lru.New[[sha256.Size]byte, struct{}](passwordsKept) // fails for sizes below 1 only
	a := &auth{realm: realm, users: users, right: right, working: make(chan struct{}, 2)}
	for _, p := range users {
		if isBcrypt(p) {
			a.decoy = p
		}
	}
	return a
}

func (a *auth) same(b *auth) bool { return a.realm == b.realm && maps.Equal(a.users, b.users) }

func isBcrypt(s string) bool {
	return len(s) == 60 && (strings.HasPrefix(s, "$2a$") || strings.HasPrefix(s, "$2b$") || strings.HasPrefix(s, "$2y$"))
}

// verify tells whether the password is the user's. An unknown user costs as much
// time as a wrong password. Of a flood of wrong ones only two are computed at
// once, so that they do not take the processor from everybody else.
func (a *auth) verify(user, password string) bool {
	want, known := a.users[user]
	if !known {
		want = a.decoy
	}
	if !isBcrypt(want) {
		x, y := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(password))
		return subtle.ConstantTimeCompare(x[:], y[:]) == 1 && known
	}
	key := sha256.Sum256([]byte(user + "\x00" + want + "\x00" + password))
	if a.right.Contains(key) {
		return known
	}
	a.working <- struct{}{}
	err := bcrypt.CompareHashAndPassword([]byte(want), []byte(password))
	<-a.working
	if err != nil || !known {
		return false
	}
	a.right.Add(key, struct{}{})
	return true
}
