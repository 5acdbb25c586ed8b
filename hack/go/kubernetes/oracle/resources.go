package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unsafe"

	internalv1alpha1 "k8s.io/api/apiserverinternal/v1alpha1"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	schedulingv1alpha3 "k8s.io/api/scheduling/v1alpha3"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/apiserver/pkg/warning"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"navarch/hack/go/kubernetes/storages"
)

// What every object gets, here and in ours.
const (
	namespace = "default"
	uid       = "5eed0000-0000-4000-8000-000000000001"
	// now stands in results for the time at which the program ran.
	now = "2026-01-01T00:00:00Z"
)

var oracle = &user.DefaultInfo{Name: "oracle", UID: "oracle-uid", Groups: []string{"system:masters", "system:authenticated"}}

// resource is one resource of one served version, with the strategies of its parts.
type resource struct {
	gvr        schema.GroupVersionResource
	gvk        schema.GroupVersionKind // as served
	stored     schema.GroupVersionKind
	namespaced bool
	create     rest.RESTCreateStrategy
	update     rest.RESTUpdateStrategy
	// parts are the subresources of the same kind that are updated by a strategy, by name.
	parts []part
}

type part struct {
	name     string
	strategy rest.RESTUpdateStrategy
}

func (p part) target() target { return target(cmp.Or(p.name, "update")) }

// writable are the object as a whole and its parts.
func (r *resource) writable() []part { return append([]part{{"", r.update}}, r.parts...) }

// asked are versions that are not served by default, the better ones first.
var asked = []schema.GroupVersion{
	internalv1alpha1.SchemeGroupVersion, coordinationv1beta1.SchemeGroupVersion, lifecyclev1alpha1.SchemeGroupVersion,
	resourcev1alpha3.SchemeGroupVersion, schedulingv1beta1.SchemeGroupVersion, schedulingv1alpha3.SchemeGroupVersion,
}

// hasBetter says whether what is at a path is also there in a version that is served by default, or a better one.
func hasBetter(built storages.Built, gv schema.GroupVersion, path string) bool {
	for other, paths := range built {
		if _, ok := paths[path]; ok && other.Group == gv.Group && slices.Index(asked, other) < slices.Index(asked, gv) {
			return true
		}
	}
	return false
}

// readResources finds every stored resource of the default API, and those that are served where that is asked for.
func readResources() ([]*resource, error) {
	config := controlplane.DefaultAPIResourceConfigSource()
	config.EnableVersions(asked...)
	built, _, err := storages.Build(config)
	if err != nil {
		return nil, err
	}
	var all []*resource
	for gv, paths := range built {
		for path, st := range paths {
			store := storages.StoreOf(st)
			if store == nil || strings.Contains(path, "/") || hasBetter(built, gv, path) {
				continue
			}
			r, err := readResource(gv.WithResource(path), st, store, paths)
			if err != nil {
				return nil, fmt.Errorf("%v %s: %w", gv, path, err)
			}
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b *resource) int { return strings.Compare(a.gvr.String(), b.gvr.String()) })
	return all, nil
}

func readResource(gvr schema.GroupVersionResource, st rest.Storage, store *genericregistry.Store, paths map[string]rest.Storage) (*resource, error) {
	kinds, _, err := legacyscheme.Scheme.ObjectKinds(store.NewFunc())
	if err != nil {
		return nil, err
	}
	stored, ok := st.(rest.StorageVersionProvider).StorageVersion().KindForGroupVersionKinds(kinds)
	if !ok {
		return nil, fmt.Errorf("no storage version")
	}
	r := &resource{
		gvr: gvr, gvk: gvr.GroupVersion().WithKind(stored.Kind), stored: stored,
		create: store.CreateStrategy, update: store.UpdateStrategy,
	}
	if r.create == nil || r.update == nil {
		return nil, fmt.Errorf("no strategy")
	}
	r.namespaced = r.create.NamespaceScoped()
	stopClock(reflect.ValueOf(r.create), 2)
	stopClock(reflect.ValueOf(r.update), 2)
	for path, st := range paths {
		name, ok := strings.CutPrefix(path, gvr.Resource+"/")
		if !ok {
			continue
		}
		_, updates := st.(rest.Updater)
		below := storages.StoreOf(st)
		if !updates || below == nil || below.UpdateStrategy == nil || reflect.TypeOf(st.New()) != reflect.TypeOf(store.NewFunc()) {
			continue
		}
		stopClock(reflect.ValueOf(below.UpdateStrategy), 2)
		r.parts = append(r.parts, part{name, below.UpdateStrategy})
	}
	slices.SortFunc(r.parts, func(a, b part) int { return strings.Compare(a.name, b.name) })
	return r, nil
}

// stopClock gives the clocks of a strategy, and of the one inside of it, the time that ours is given.
func stopClock(v reflect.Value, depth int) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return
		}
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct || !v.CanAddr() || depth == 0 {
		return
	}
	at, _ := time.Parse(time.RFC3339, now)
	for i := range v.NumField() {
		f := v.Field(i)
		if f.Type() == reflect.TypeFor[clock.PassiveClock]() {
			*(*clock.PassiveClock)(unsafe.Pointer(f.UnsafeAddr())) = clocktesting.NewFakePassiveClock(at)
			continue
		}
		stopClock(f, depth-1)
	}
}

// refusal is why a write is not taken.
type refusal struct {
	Code    int32       `json:"code"`
	Reason  string      `json:"reason"`
	Message string      `json:"message,omitempty"`
	Causes  [][3]string `json:"causes,omitempty"`
}

// outcome is what became of a write.
type outcome struct {
	object   runtime.Object // internal; nil if refused
	refused  *refusal
	warnings []string
}

// sorted is the same with its causes in an order of their own.
func (r *refusal) sorted() *refusal {
	if r == nil {
		return nil
	}
	sorted := *r
	sorted.Causes = slices.SortedFunc(slices.Values(r.Causes), func(a, b [3]string) int { return slices.Compare(a[:], b[:]) })
	return &sorted
}

func refuse(err error) *refusal {
	status, ok := err.(apierrors.APIStatus)
	if !ok {
		return &refusal{Code: 500, Reason: "InternalError", Message: err.Error()}
	}
	s := status.Status()
	r := &refusal{Code: s.Code, Reason: string(s.Reason), Message: s.Message}
	if s.Details != nil && len(s.Details.Causes) > 0 {
		r.Message = "" // the causes once more
		for _, c := range s.Details.Causes {
			r.Causes = append(r.Causes, [3]string{c.Field, string(c.Type), c.Message})
		}
	}
	return r
}

// warnings notes what clients are told.
type warnings struct{ texts []string }

func (w *warnings) AddWarning(_, text string) { w.texts = append(w.texts, text) }

func (r *resource) context(verb, subresource, name string, w *warnings) context.Context {
	ctx := request.WithUser(context.Background(), oracle)
	space := ""
	if r.namespaced {
		space = namespace
	}
	if r.gvr.Resource == "namespaces" {
		space = name
	}
	ctx = request.WithNamespace(ctx, space)
	ctx = request.WithRequestInfo(ctx, &request.RequestInfo{
		IsResourceRequest: true, Verb: verb, APIGroup: r.gvr.Group, APIVersion: r.gvr.Version, Resource: r.gvr.Resource,
		Subresource: subresource, Namespace: space, Name: name,
	})
	return warning.WithWarningRecorder(ctx, w)
}

// decode reads a request body as handlers do: defaulted in its version, converted to the internal one.
func (r *resource) decode(body []byte) (runtime.Object, error) {
	decoder := legacyscheme.Codecs.DecoderToVersion(jsonSerializer, schema.GroupVersion{Group: r.gvr.Group, Version: runtime.APIVersionInternal})
	gvk := r.gvk
	object, _, err := decoder.Decode(body, &gvk, nil)
	return object, err
}

// restored is an object as it is read from etcd, where it was written: what is empty is nothing then.
func (r *resource) restored(object runtime.Object) (runtime.Object, error) {
	setVersion(object)
	value, err := tree(object, r.stored.GroupVersion())
	if err != nil {
		return nil, err
	}
	return r.read(value)
}

// read is an object as it is read from etcd, of its JSON in the version in which it is stored.
func (r *resource) read(value any) (runtime.Object, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	internal := schema.GroupVersion{Group: r.stored.Group, Version: runtime.APIVersionInternal}
	object, err := runtime.Decode(legacyscheme.Codecs.DecoderToVersion(jsonSerializer, internal), body)
	if err != nil {
		return nil, err
	}
	body, err = runtime.Encode(legacyscheme.Codecs.EncoderForVersion(protobufSerializer, r.stored.GroupVersion()), object)
	if err != nil {
		return nil, err
	}
	return runtime.Decode(legacyscheme.Codecs.DecoderToVersion(protobufSerializer, internal), body)
}

// forced is a new object as if it had been stored without validation.
func (r *resource) forced(object runtime.Object) (stored runtime.Object, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("upstream panics: %v", p)
		}
	}()
	object = object.DeepCopyObject()
	m, err := meta.Accessor(object)
	if err != nil {
		return nil, err
	}
	at, _ := time.Parse(time.RFC3339, now)
	m.SetCreationTimestamp(metav1.NewTime(at))
	m.SetUID(types.UID(uid))
	if r.namespaced {
		m.SetNamespace(namespace)
	}
	r.create.PrepareForCreate(r.context("create", "", m.GetName(), &warnings{}), object)
	return r.restored(object)
}

// onCreate is what happens to a new object between its decoding and the storage.
func (r *resource) onCreate(object runtime.Object) (o outcome) {
	defer recovered(&o)
	m, err := meta.Accessor(object)
	if err != nil {
		return outcome{refused: refuse(err)}
	}
	w := &warnings{}
	ctx := r.context("create", "", m.GetName(), w)
	rest.WipeObjectMetaSystemFields(m)
	space := ""
	if r.namespaced {
		space = namespace
	}
	if err := rest.EnsureObjectNamespaceMatchesRequestNamespace(space, m); err != nil {
		return outcome{refused: refuse(err)}
	}
	at, _ := time.Parse(time.RFC3339, now)
	m.SetCreationTimestamp(metav1.NewTime(at))
	m.SetUID(types.UID(uid))
	if err := rest.BeforeCreate(r.create, ctx, object); err != nil {
		return outcome{refused: refuse(err), warnings: w.texts}
	}
	return outcome{object: object, warnings: w.texts}
}

// onUpdate is what happens to a changed object. Both objects may be changed.
func (r *resource) onUpdate(p part, object, old runtime.Object) (o outcome) {
	defer recovered(&o)
	m, err := meta.Accessor(object)
	if err != nil {
		return outcome{refused: refuse(err)}
	}
	w := &warnings{}
	ctx := r.context("update", p.name, m.GetName(), w)
	if err := rest.BeforeUpdate(p.strategy, ctx, object, old); err != nil {
		return outcome{refused: refuse(err), warnings: w.texts}
	}
	return outcome{object: object, warnings: w.texts}
}

// recovered answers as the server does when a handler panics.
func recovered(o *outcome) {
	if p := recover(); p != nil {
		*o = outcome{refused: &refusal{Code: 500, Reason: "Panic", Message: fmt.Sprint(p)}}
	}
}
