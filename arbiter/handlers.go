package arbiter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/leasedog/leasedog/arbiter/api"
	"github.com/leasedog/leasedog/boottime"
	"github.com/leasedog/leasedog/lease"
	"github.com/leasedog/leasedog/pki"
)

// failure is an answer that is not 200.
type failure struct {
	status  int
	code    string
	message string
}

func (f *failure) Error() string { return f.message }

func bad(format string, args ...any) error {
	return &failure{http.StatusBadRequest, api.CodeBadRequest, fmt.Sprintf(format, args...)}
}

// route is one method and path for the network. Everything that is served there is in routes, with who may use it.
type route struct {
	method, path string
	access       access
	keeps        bool // also with a certificate that expired a few days ago: it only keeps what is held
	do           func(r *http.Request, p peer) (any, error)
	verb         string // of a lease
	cost         int    // out of what its sender may ask; 0 is 1
}

// routes is all that the network can reach.
func (s *Server) routes() []route {
	list := []route{
		{method: "POST", path: api.PathReport, access: accessNode, keeps: true, do: s.report},
		{method: "POST", path: api.PathFence, access: accessNode, do: s.fence},
		{method: "GET", path: api.PathClusters, access: accessAll, do: reading(s.statusOfAll), cost: costOfAll},
		{method: "GET", path: api.PathCluster, access: accessCluster, do: reading(s.statusOfOne)},
		{method: "GET", path: api.PathHistory, access: accessCluster, do: reading(s.history), cost: costOfHistory},
		{method: "POST", path: api.PathJoin, access: accessJoin, do: s.join},
		{method: "POST", path: api.PathCert, access: accessCert, keeps: true, do: s.renewCertificate, cost: costOfCert},
		{method: "GET", path: api.PathCA, access: accessPeer, keeps: true, do: s.authorities},
		{method: "GET", path: api.PathHealthy, access: accessAnyone, keeps: true},
		{method: "GET", path: api.PathReady, access: accessAnyone, keeps: true},
	}
	for _, verb := range []string{api.VerbAcquire, api.VerbRenew, api.VerbRelease, api.VerbPause, api.VerbResume} {
		list = append(list, route{method: "POST", path: api.PathLease + verb, access: accessNode, keeps: true, verb: verb,
			do: func(r *http.Request, p peer) (any, error) { return s.lease(r, p, verb) }})
	}
	for _, verb := range []string{api.VerbSwitchover, api.VerbResumeAsk} {
		list = append(list, route{method: "POST", path: api.PathLease + verb, access: accessAsk, verb: verb,
			do: func(r *http.Request, p peer) (any, error) { return s.lease(r, p, verb) }})
	}
	return list
}

func reading(f func(*http.Request) (any, error)) func(*http.Request, peer) (any, error) {
	return func(r *http.Request, _ peer) (any, error) { return f(r) }
}

// Handler serves the network.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range s.routes() {
		do := s.guarded(rt)
		switch rt.path {
		case api.PathHealthy:
			do = s.alive(rt, func() bool { return true })
		case api.PathReady:
			do = s.alive(rt, s.ready.Load)
		}
		mux.HandleFunc(rt.method+" "+rt.path, do)
	}
	mux.HandleFunc("/", s.guarded(route{access: accessAnyone, keeps: true, do: func(r *http.Request, _ peer) (any, error) { return nothing(r) }}))
	return mux
}

func nothing(*http.Request) (any, error) {
	return nil, &failure{http.StatusNotFound, api.CodeNotFound, "no such path or method"}
}

// ControlHandler serves the local control socket, whose file mode says who may speak.
func (s *Server) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathClusters, answer(s.statusOfAll))
	mux.HandleFunc("GET "+api.PathCluster, answer(s.statusOfOne))
	mux.HandleFunc("GET "+api.PathHistory, answer(s.history))
	mux.HandleFunc("POST "+api.PathCode, answer(s.makeCode))
	mux.HandleFunc("GET "+api.PathSeen, answer(s.seenCAs))
	mux.HandleFunc("POST "+api.PathRecover, answer(func(r *http.Request) (any, error) {
		return s.operator(r, func(id lease.RequestID) (lease.GrantorEvent, error) { return lease.OperatorRecover{ID: id}, nil })
	}))
	mux.HandleFunc("POST "+api.PathLease+api.VerbResumeAsk, answer(func(r *http.Request) (any, error) {
		return s.operator(r, func(id lease.RequestID) (lease.GrantorEvent, error) {
			return lease.OperatorResume{ID: id, Lease: r.PathValue("lease")}, nil
		})
	}))
	mux.HandleFunc("POST "+api.PathFree, answer(func(r *http.Request) (any, error) {
		return s.operator(r, func(id lease.RequestID) (lease.GrantorEvent, error) {
			var w api.Free
			text, err := body(r)
			if err == nil {
				err = strictDecode(text, &w)
			}
			if err != nil {
				return nil, bad("free: %v", err)
			}
			return lease.OperatorFree{ID: id, Lease: r.PathValue("lease"), Node: w.HolderIsOff, Check: w.Check}, nil
		})
	}))
	mux.HandleFunc("POST "+api.PathUnbar, answer(func(r *http.Request) (any, error) {
		return s.operator(r, func(id lease.RequestID) (lease.GrantorEvent, error) {
			return lease.OperatorUnbar{ID: id, Node: r.PathValue("node")}, nil
		})
	}))
	mux.HandleFunc("/", answer(nothing))
	return mux
}

// enter lets a request through to a route, or says why not.
func (s *Server) enter(r *http.Request, rt route) (peer, error) {
	if rt.access == accessJoin && s.opt.TLS != nil && r.TLS != nil && len(r.TLS.PeerCertificates) == 0 {
		return peer{}, nil // the code says who it is; tries have a limit of their own
	}
	p, err := s.identify(r)
	if often := s.afford(r, rt, &p, err != nil); often != nil {
		return p, often
	}
	if err != nil {
		return p, err
	}
	cluster := r.PathValue("cluster")
	if rt.path == api.PathHistory {
		cluster = r.URL.Query().Get("cluster")
	}
	if err := s.authorise(p, rt, cluster); err != nil {
		return p, err
	}
	s.seen(p)
	return p, nil
}

// guarded is a route with its guard: who may not is refused, and whatever is refused is counted and logged.
func (s *Server) guarded(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var v any
		p, err := s.enter(r, rt)
		if err == nil {
			v, err = rt.do(r, p)
		}
		s.count(r, p, v, err)
		if isTooOften(err) {
			s.limits.wait(r.Context(), refusalDelay)
		}
		reply(w, v, err)
	}
}

func (s *Server) alive(rt route, ok func() bool) http.HandlerFunc {
	inner := plain(ok)
	return func(w http.ResponseWriter, r *http.Request) {
		if p, err := s.enter(r, rt); err != nil {
			s.count(r, p, nil, err)
			if isTooOften(err) {
				s.limits.wait(r.Context(), refusalDelay)
			}
			reply(w, nil, err)
			return
		}
		inner(w, r)
	}
}

// count writes down what was refused: by a status, or by a verdict of the protocol.
func (s *Server) count(r *http.Request, p peer, v any, err error) {
	reason, text := "", ""
	var no *refused
	var fail *failure
	switch {
	case errors.As(err, &no):
		reason, text = no.reason, no.message
	case errors.As(err, &fail) && fail.code == api.CodeBadRequest:
		reason, text = reasonBadRequest, fail.message
	case errors.As(err, &fail) && fail.code == api.CodeNotFound:
		reason, text = reasonNotFound, fail.message
	}
	if a, ok := v.(api.Answer); ok && err == nil {
		switch lease.Verdict(a.Verdict) {
		case lease.Refused, lease.Lost, lease.Superseded, lease.Barred:
			reason, text = reasonVerdict+a.Verdict, a.Verdict+": "+a.Reason
		default:
		}
	}
	if reason == "" {
		return
	}
	address := r.RemoteAddr
	if address == "" {
		address = unknownAddress
	}
	s.refusals.note(p.name(), address, reason, r.Method+" "+r.URL.Path+": "+text)
}

// answer writes what f returns.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		reply(w, v, err)
	}
}

func reply(w http.ResponseWriter, v any, err error) {
	var fail *failure
	switch {
	case err == nil:
		write(w, http.StatusOK, v)
	case errors.As(err, &fail):
		if fail.status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", retryAfter)
		}
		write(w, fail.status, api.Error{Code: fail.code, Message: fail.message})
	case errors.Is(err, errStopping) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		write(w, http.StatusServiceUnavailable, api.Error{Code: api.CodeUnavailable, Message: err.Error()})
	default:
		write(w, http.StatusInternalServerError, api.Error{Code: api.CodeInternal, Message: err.Error()})
	}
}

func write(w http.ResponseWriter, status int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("arbiter: marshal %T: %v", v, err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)+1))
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // a peer that is gone asks again
}

func plain(ok func() bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if !ok() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	}
}

// body reads a request's body, which is small.
func body(r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, api.MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	if len(text) > api.MaxBody {
		return nil, fmt.Errorf("the body is larger than %d bytes", api.MaxBody)
	}
	return text, nil
}

// lease is every request about a lease.
func (s *Server) lease(r *http.Request, p peer, verb string) (any, error) {
	came := boottime.Now()
	clusterName, leaseName := r.PathValue("cluster"), r.PathValue("lease")
	if !valid(s.names.cluster, clusterName) || !valid(s.names.lease, leaseName) {
		return nil, bad("cluster %q or lease %q is not a name", clusterName, leaseName)
	}
	text, err := body(r)
	if err != nil {
		return nil, bad("%s: %v", verb, err)
	}
	msg, node, err := (&reader{names: s.names}).request(verb, text)
	if err != nil {
		return nil, bad("%s: %v", verb, err)
	}
	anyNode := verb == api.VerbSwitchover || verb == api.VerbResumeAsk // an administrator's, whoever passes it on
	if err := s.permit(p, clusterName, node, leaseName, anyNode); err != nil {
		return nil, err
	}
	if a, ok := msg.(lease.Acquire); ok && a.Claim == nil && !p.insecure && p.Standing != pki.Valid {
		return nil, forbid(reasonGrace, "%s: it keeps what is held, and gets nothing new", s.opt.TLS.Dates(p.Peer))
	}
	c := s.cluster(clusterName, !anyNode && !p.onlyAdopts)
	if a, ok := msg.(lease.Acquire); ok && p.onlyAdopts {
		if err := s.affordAdoption(c, p, leaseName, a); err != nil {
			return nil, err
		}
	}
	if c == nil {
		return nil, &failure{http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("cluster %s is not known", clusterName)}
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	id := s.id()
	a, err := c.ask(ctx, id, lease.Request{ID: id, Lease: leaseName, Body: msg})
	if err != nil {
		return nil, err
	}
	w := toWire(a)
	w.Clock = &api.Clock{ID: s.clockID, InNS: int64(came.Sub(s.started)), OutNS: int64(boottime.Now().Sub(s.started))}
	return w, nil
}

// report keeps what a node says about itself, for the status, and tells the Grantor if it names its instance.
func (s *Server) report(r *http.Request, p peer) (any, error) {
	clusterName, node := r.PathValue("cluster"), r.PathValue("node")
	if !valid(s.names.cluster, clusterName) || !valid(s.names.node, node) {
		return nil, bad("cluster %q or node %q is not a name", clusterName, node)
	}
	text, err := body(r)
	if err != nil {
		return nil, bad("report: %v", err)
	}
	var w api.Report
	if err := strictDecode(text, &w); err != nil {
		return nil, bad("report: %v", err)
	}
	if w.Proto != api.Proto || w.Node != node {
		return nil, bad("report: proto %d and node %q do not fit %d and %q", w.Proto, w.Node, api.Proto, node)
	}
	if err := s.permit(p, clusterName, node, "", false); err != nil {
		return nil, err
	}
	msg, speaks, err := (&reader{names: s.names}).report(w)
	if err != nil {
		return nil, bad("report: %v", err)
	}
	c := s.cluster(clusterName, speaks)
	if c == nil {
		return nil, &failure{http.StatusNotFound, api.CodeNotFound, "this cluster has not asked for a lease yet"}
	}
	w.BootID, w.Instance = "", "" // a secret
	err = c.do(r.Context(), func() {
		if before, known := c.reports[node]; known || len(c.reports) < 16 {
			if speaks {
				w.Alarms = before.Alarms // what it says of its leases says nothing of them
			}
			c.reports[node] = w
		}
	})
	if err != nil || !speaks {
		return api.Answer{Proto: api.Proto, Verdict: string(lease.OK), Seq: w.Seq}, err
	}
	return s.askAt(r.Context(), c, msg)
}

// fence is a node's word that another one of its cluster is to be fenced.
func (s *Server) fence(r *http.Request, p peer) (any, error) {
	clusterName, target := r.PathValue("cluster"), r.PathValue("node")
	if !valid(s.names.cluster, clusterName) || !valid(s.names.node, target) {
		return nil, bad("cluster %q or node %q is not a name", clusterName, target)
	}
	text, err := body(r)
	if err != nil {
		return nil, bad("fence: %v", err)
	}
	msg, err := (&reader{names: s.names}).fence(text, target)
	if err != nil {
		return nil, bad("fence: %v", err)
	}
	if err := s.permit(p, clusterName, msg.Node, "", false); err != nil {
		return nil, err
	}
	if err := s.scope(clusterName, target, ""); err != nil {
		return nil, err
	}
	c := s.cluster(clusterName, false)
	if c == nil {
		return nil, &failure{http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("cluster %s is not known", clusterName)}
	}
	return s.askAt(r.Context(), c, msg)
}

// askAt puts a message that is about no lease to a cluster's Grantor.
func (s *Server) askAt(ctx context.Context, c *cluster, msg any) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	id := s.id()
	a, err := c.ask(ctx, id, lease.Request{ID: id, Body: msg})
	if err != nil {
		return nil, err
	}
	return toWire(a), nil
}

func (s *Server) statusOfAll(r *http.Request) (any, error) {
	s.mu.Lock()
	all := slices.Sorted(maps.Keys(s.clusters))
	s.mu.Unlock()
	return s.status(r.Context(), all)
}

func (s *Server) statusOfOne(r *http.Request) (any, error) {
	return s.status(r.Context(), []string{r.PathValue("cluster")})
}

func (s *Server) status(ctx context.Context, names []string) (any, error) {
	out := api.Status{Proto: api.Proto, Insecure: s.opt.Insecure, Clusters: []api.ClusterStatus{}, Refused: s.refusals.snapshot(),
		Certificates: s.certificates()}
	for _, name := range names {
		c := s.cluster(name, false)
		if c == nil {
			return nil, &failure{http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("cluster %q is not known", name)}
		}
		v, err := c.status(ctx)
		if err != nil {
			return nil, err
		}
		s.addCertificates(&v)
		out.Clusters = append(out.Clusters, v)
	}
	return out, nil
}

func (s *Server) history(r *http.Request) (any, error) {
	name := r.URL.Query().Get("cluster")
	if s.cluster(name, false) == nil {
		return nil, &failure{http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("cluster %q is not known", name)}
	}
	limit := 100
	if v := r.URL.Query().Get("limit"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 1000 {
			return nil, bad("limit must be 1 to 1000")
		}
		limit = n
	}
	list, err := s.opt.Store.History(name, limit)
	if list == nil {
		list = []api.Transition{}
	}
	return api.History{Proto: api.Proto, Transitions: list}, err
}

// operator carries a human's word to a cluster.
func (s *Server) operator(r *http.Request, event func(lease.RequestID) (lease.GrantorEvent, error)) (any, error) {
	c := s.cluster(r.PathValue("cluster"), false)
	if c == nil {
		return nil, &failure{http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("cluster %q is not known", r.PathValue("cluster"))}
	}
	id := s.id()
	ev, err := event(id)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	a, err := c.ask(ctx, id, ev)
	if err != nil {
		return nil, err
	}
	return toWire(a), nil
}
