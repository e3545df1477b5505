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
	"github.com/leasedog/leasedog/lease"
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

// Handler serves nodes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, verb := range []string{api.VerbAcquire, api.VerbRenew, api.VerbRelease, api.VerbSwitchover, api.VerbPause, api.VerbResume,
		api.VerbResumeAsk} {
		mux.HandleFunc("POST "+api.PathLease+verb, s.handle(func(r *http.Request) (any, error) { return s.lease(r, verb) }))
	}
	mux.HandleFunc("POST "+api.PathReport, s.handle(s.report))
	s.reads(mux, s.handle)
	mux.HandleFunc("GET "+api.PathHealthy, plain(func() bool { return true }))
	mux.HandleFunc("GET "+api.PathReady, plain(s.ready.Load))
	mux.HandleFunc("/", s.handle(nothing))
	return mux
}

func nothing(*http.Request) (any, error) {
	return nil, &failure{http.StatusNotFound, api.CodeNotFound, "no such path or method"}
}

// ControlHandler serves the local control socket, whose file mode says who may speak.
func (s *Server) ControlHandler() http.Handler {
	mux := http.NewServeMux()
	s.reads(mux, answer)
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

func (s *Server) reads(mux *http.ServeMux, wrap func(func(*http.Request) (any, error)) http.HandlerFunc) {
	mux.HandleFunc("GET "+api.PathClusters, wrap(s.statusOfAll))
	mux.HandleFunc("GET "+api.PathCluster, wrap(s.statusOfOne))
	mux.HandleFunc("GET "+api.PathHistory, wrap(s.history))
}

// handle lets only peers through that may speak at all.
func (s *Server) handle(f func(*http.Request) (any, error)) http.HandlerFunc {
	inner := answer(f)
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.identify(r); err != nil {
			write(w, http.StatusForbidden, api.Error{Code: api.CodeForbidden, Message: err.Error()})
			return
		}
		inner(w, r)
	}
}

// answer writes what f returns.
func answer(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		var fail *failure
		switch {
		case err == nil:
			write(w, http.StatusOK, v)
		case errors.As(err, &fail):
			write(w, fail.status, api.Error{Code: fail.code, Message: fail.message})
		case errors.Is(err, errStopping) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
			write(w, http.StatusServiceUnavailable, api.Error{Code: api.CodeUnavailable, Message: err.Error()})
		default:
			write(w, http.StatusInternalServerError, api.Error{Code: api.CodeInternal, Message: err.Error()})
		}
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
func (s *Server) lease(r *http.Request, verb string) (any, error) {
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
	if err := s.permit(r, clusterName, node, anyNode); err != nil {
		return nil, err
	}
	c := s.cluster(clusterName, !anyNode)
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
	return toWire(a), nil
}

// permit checks that the peer may speak for this node.
func (s *Server) permit(r *http.Request, cluster, node string, anyNode bool) error {
	who, err := s.identify(r)
	if err == nil && !who.maySpeakFor(cluster, node) && !(anyNode && who.any) {
		err = fmt.Errorf("this peer may not speak for node %q of cluster %s", node, cluster)
	}
	if err != nil {
		return &failure{http.StatusForbidden, api.CodeForbidden, err.Error()}
	}
	return nil
}

// report keeps what a node says about itself, for the status, and tells the Grantor if it names its instance.
func (s *Server) report(r *http.Request) (any, error) {
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
	if err := s.permit(r, clusterName, node, false); err != nil {
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
	err = c.do(r.Context(), func() {
		if _, known := c.reports[node]; known || len(c.reports) < 16 {
			c.reports[node] = w
		}
	})
	if err != nil || !speaks {
		return api.Answer{Proto: api.Proto, Verdict: string(lease.OK), Seq: w.Seq}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
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
	out := api.Status{Proto: api.Proto, Insecure: s.opt.Insecure, Clusters: []api.ClusterStatus{}}
	for _, name := range names {
		c := s.cluster(name, false)
		if c == nil {
			return nil, &failure{http.StatusNotFound, api.CodeNotFound, fmt.Sprintf("cluster %q is not known", name)}
		}
		v, err := c.status(ctx)
		if err != nil {
			return nil, err
		}
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
