package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/emicklei/go-restful/v3"
	apidiscoveryv2 "k8s.io/api/apidiscovery/v2"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/request"
	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/controlplane"
	"navarch/hack/go/kubernetes/storages"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

type resource struct {
	gv                     schema.GroupVersion
	name, singular, kind   string
	shortNames, categories []string
	namespaced, on         bool
	verbs                  []string
	message, list          string
	storage                *stored
	subresources           []subresource
	columns                []metav1.TableColumnDefinition
	fieldLabels            [][2]string
	flags                  []string
	gc                     string
	ttl                    uint64
	reset                  []string
	introduced, removed    string
}

type resources []resource

// stored says where and as what objects are kept.
type stored struct {
	gv              schema.GroupVersion
	message, prefix string
	encoding        string // "protobuf" or "json"
	former          []former
}

type subresource struct {
	name    string
	gvk     schema.GroupVersionKind
	message string
	verbs   []string
	reset   []string
}

// readResources asks the installer and the storages of every group version: first as a server without
// flags has them, then with everything on for those that are off by default.
func (c *catalogue) readResources() (resources, error) {
	config := controlplane.DefaultAPIResourceConfigSource()
	all := map[schema.GroupVersionResource]resource{}
	read := func(on bool) error {
		built, getter, err := storages.Build(config)
		if err != nil {
			return err
		}
		if err := addExtensionServers(built, getter); err != nil {
			return err
		}
		for gv, paths := range built {
			found, err := c.readGroupVersion(gv, paths)
			if err != nil {
				return fmt.Errorf("%v: %w", gv, err)
			}
			for _, r := range found {
				r.on = on
				if _, known := all[gv.WithResource(r.name)]; !known {
					all[gv.WithResource(r.name)] = r
				}
			}
		}
		return nil
	}
	if err := read(true); err != nil {
		return nil, err
	}
	gates := utilfeature.DefaultMutableFeatureGate
	if err := gates.Set("AllAlpha=true,AllBeta=true"); err != nil {
		return nil, err
	}
	for gv := range config.GroupVersionConfigs {
		config.EnableVersions(gv)
	}
	if err := read(false); err != nil {
		return nil, err
	}
	for gate := range gates.GetAll() {
		if err := gates.ResetFeatureValueToDefault(gate); err != nil {
			return nil, err
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b resource) int {
		return cmp.Or(cmp.Compare(a.gv.Group, b.gv.Group), cmp.Compare(a.gv.Version, b.gv.Version), cmp.Compare(a.name, b.name))
	}), nil
}

// readGroupVersion installs the storages as the server would and reads what discovery then says, and
// the rest off the storages.
func (c *catalogue) readGroupVersion(gv schema.GroupVersion, paths map[string]rest.Storage) ([]resource, error) {
	options := schema.GroupVersion{Version: "v1"}
	installer := endpoints.APIGroupVersion{
		Storage:                    paths,
		Root:                       "/apis",
		GroupVersion:               gv,
		OptionsExternalVersion:     &options,
		Serializer:                 legacyscheme.Codecs,
		ParameterCodec:             legacyscheme.ParameterCodec,
		Typer:                      scheme,
		Creater:                    scheme,
		Convertor:                  scheme,
		ConvertabilityChecker:      scheme,
		Defaulter:                  scheme,
		UnsafeConvertor:            runtime.UnsafeObjectConvertor(scheme),
		TypeConverter:              managedfields.NewDeducedTypeConverter(),
		Namer:                      runtime.Namer(meta.NewAccessor()),
		EquivalentResourceRegistry: runtime.NewEquivalentResourceRegistry(),
		Authorizer:                 authorizerfactory.NewAlwaysAllowAuthorizer(),
	}
	discovered, _, err := installer.InstallREST(restful.NewContainer())
	if err != nil {
		return nil, err
	}
	var found []resource
	for _, d := range discovered {
		r, err := c.readResource(gv, d, paths)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.Resource, err)
		}
		found = append(found, r)
	}
	return found, nil
}

func (c *catalogue) readResource(gv schema.GroupVersion, d apidiscoveryv2.APIResourceDiscovery, paths map[string]rest.Storage) (resource, error) {
	r := resource{
		gv: gv, name: d.Resource, singular: d.SingularResource, kind: d.ResponseKind.Kind,
		shortNames: d.ShortNames, categories: d.Categories, namespaced: d.Scope == apidiscoveryv2.ScopeNamespace,
		verbs: d.Verbs, gc: "background",
	}
	st := paths[d.Resource]
	if st == nil {
		return r, fmt.Errorf("a subresource without its resource")
	}
	r.message = c.messageOf(gv.WithKind(r.kind))
	if r.message == "" {
		return r, fmt.Errorf("no message for %s", r.kind)
	}
	if err := r.readLifecycle(); err != nil {
		return r, err
	}
	if lister, ok := st.(rest.Lister); ok {
		gvks, _, err := scheme.ObjectKinds(lister.NewList())
		if err != nil {
			return r, err
		}
		r.list = c.messageOf(gv.WithKind(gvks[0].Kind))
		if r.columns, err = columns(st, lister); err != nil {
			return r, err
		}
	}
	r.reset = resetFields(st, gv)
	for _, s := range d.Subresources {
		r.subresources = append(r.subresources, c.readSubresource(gv, s, paths[d.Resource+"/"+s.Subresource]))
	}
	slices.SortFunc(r.subresources, func(a, b subresource) int { return cmp.Compare(a.name, b.name) })
	if s := storages.StoreOf(st); s != nil {
		if err := c.readStore(&r, s, st); err != nil {
			return r, err
		}
	}
	return r, nil
}

// readLifecycle asks the type since when there is such a version of the kind, and until when.
func (r *resource) readLifecycle() error {
	o, err := scheme.New(r.gv.WithKind(r.kind))
	if err != nil {
		return err
	}
	if of, ok := o.(interface{ APILifecycleIntroduced() (int, int) }); ok {
		major, minor := of.APILifecycleIntroduced()
		r.introduced = fmt.Sprintf("%d.%d", major, minor)
	}
	if of, ok := o.(interface{ APILifecycleRemoved() (int, int) }); ok {
		major, minor := of.APILifecycleRemoved()
		r.removed = fmt.Sprintf("%d.%d", major, minor)
	}
	return nil
}

func (c *catalogue) readSubresource(gv schema.GroupVersion, d apidiscoveryv2.APISubresourceDiscovery, st rest.Storage) subresource {
	gvk := schema.GroupVersionKind(*d.ResponseKind)
	if gvk.Version == "" {
		gvk = gv.WithKind(gvk.Kind)
	}
	return subresource{name: d.Subresource, gvk: gvk, message: c.messageOf(gvk), verbs: d.Verbs, reset: resetFields(st, gv)}
}

func (c *catalogue) messageOf(gvk schema.GroupVersionKind) string {
	t := scheme.AllKnownTypes()[gvk]
	if t == nil {
		return ""
	}
	return shortName(t)
}

// columns asks for the table of an empty list.
func columns(st rest.Storage, lister rest.Lister) ([]metav1.TableColumnDefinition, error) {
	convertor, ok := st.(rest.TableConvertor)
	if !ok {
		return nil, nil
	}
	ctx := request.WithRequestInfo(context.Background(), &request.RequestInfo{})
	table, err := convertor.ConvertToTable(ctx, lister.NewList(), &metav1.TableOptions{})
	if err != nil {
		return nil, err
	}
	return table.ColumnDefinitions, nil
}

// resetFields lists the paths that the strategy takes from the stored object whatever the client
// sends, so that server-side apply must not record them for the client.
func resetFields(st rest.Storage, gv schema.GroupVersion) []string {
	strategy, ok := st.(rest.ResetFieldsStrategy)
	if !ok {
		return nil
	}
	set := strategy.GetResetFields()[fieldpath.APIVersion(gv.String())]
	if set == nil {
		return nil
	}
	var paths []string
	set.Iterate(func(p fieldpath.Path) { paths = append(paths, strings.TrimPrefix(p.String(), ".")) })
	slices.Sort(paths)
	return paths
}

// readStore reads what the generic store and its strategies were told.
func (c *catalogue) readStore(r *resource, s *genericregistry.Store, st rest.Storage) error {
	ctx := request.WithRequestInfo(context.Background(), &request.RequestInfo{APIGroup: r.gv.Group, APIVersion: r.gv.Version})
	if err := c.readStorage(ctx, r, s, st); err != nil {
		return err
	}
	flag := func(on bool, name string) {
		if on {
			r.flags = append(r.flags, name)
		}
	}
	if s.UpdateStrategy != nil {
		flag(s.UpdateStrategy.AllowCreateOnUpdate(ctx), "create-on-update")
		flag(s.UpdateStrategy.AllowUnconditionalUpdate(ctx), "unconditional-update")
	}
	_, graceful := s.DeleteStrategy.(rest.RESTGracefulDeleteStrategy)
	flag(graceful, "graceful")
	flag(s.ReturnDeletedObject, "return-deleted")
	if gc, ok := s.DeleteStrategy.(rest.GarbageCollectionDeleteStrategy); ok {
		policies := map[rest.GarbageCollectionPolicy]string{
			rest.DeleteDependents: "background", rest.OrphanDependents: "orphan", rest.Unsupported: "unsupported",
		}
		if r.gc = policies[gc.DefaultGarbageCollectionPolicy(ctx)]; r.gc == "" {
			return fmt.Errorf("unknown garbage collection policy")
		}
	}
	if s.TTLFunc != nil {
		ttl, err := s.TTLFunc(s.NewFunc(), 0, false)
		if err != nil {
			return err
		}
		r.ttl = ttl
	}
	return c.readFieldLabels(r, s)
}

// readStorage reads the prefix off a key, and version and encoding off the codec.
func (c *catalogue) readStorage(ctx context.Context, r *resource, s *genericregistry.Store, st rest.Storage) error {
	tail := "/NAME"
	if r.namespaced {
		ctx, tail = request.WithNamespace(ctx, "NS"), "/NS/NAME"
	}
	key, err := s.KeyFunc(ctx, "NAME")
	if err != nil {
		return err
	}
	prefix, ok := strings.CutSuffix(key, tail)
	if !ok {
		return fmt.Errorf("unexpected key %s", key)
	}
	gvks, _, err := scheme.ObjectKinds(s.NewFunc())
	if err != nil {
		return err
	}
	gvk, ok := st.(rest.StorageVersionProvider).StorageVersion().KindForGroupVersionKinds(gvks)
	if !ok {
		return fmt.Errorf("no storage version")
	}
	encoded, err := runtime.Encode(s.Storage.Codec, s.NewFunc())
	if err != nil {
		return err
	}
	r.storage = &stored{
		gv:       gvk.GroupVersion(),
		message:  c.messageOf(gvk),
		prefix:   strings.Trim(prefix, "/"),
		encoding: choose(bytes.HasPrefix(encoded, []byte("k8s\x00")), "protobuf", "json"),
	}
	return c.readFormer(r)
}

// strange are field labels that are neither stored attributes nor paths of the kind.
var strange = []string{
	"name", "reason", "reportingComponent", "reportingController", "source", "spec.host", "status.podIPs", "type",
}

// readFieldLabels tries every attribute of the store, every path of the kind, and a few names that
// only conversion functions know.
func (c *catalogue) readFieldLabels(r *resource, s *genericregistry.Store) error {
	o := s.NewFunc()
	accessor, err := meta.Accessor(o)
	if err != nil {
		return err
	}
	accessor.SetName("n")
	if r.namespaced {
		accessor.SetNamespace("ns")
	}
	_, attributes, err := s.PredicateFunc(labels.Everything(), fields.Everything()).GetAttrs(o)
	if err != nil {
		return err
	}
	candidates := slices.Concat(strange, slices.Collect(maps.Keys(attributes)))
	c.paths(r.message, "", 4, func(path string) { candidates = append(candidates, path) })
	slices.Sort(candidates)
	for _, label := range slices.Compact(candidates) {
		if label == "metadata.name" || label == "metadata.namespace" {
			continue
		}
		attribute, _, err := scheme.ConvertFieldLabel(r.gv.WithKind(r.kind), label, "x")
		if err == nil {
			r.fieldLabels = append(r.fieldLabels, [2]string{label, attribute})
		}
	}
	return nil
}

// paths calls f with the JSON paths of single fields below a message.
func (c *catalogue) paths(name, prefix string, depth int, f func(string)) {
	m := c.messages[name]
	if m == nil || depth == 0 {
		return
	}
	for _, field := range m.fields {
		switch {
		case field.embedded:
			c.paths(field.kind, prefix, depth, f)
		case field.shape == "" && field.message:
			c.paths(field.kind, prefix+field.json+".", depth-1, f)
		default:
			f(prefix + field.json)
		}
	}
}

func (resources resources) write(b *bytes.Buffer) error {
	header(b,
		"resource VERSION NAME KIND SINGULAR namespaced|cluster on|off MESSAGE LIST   LIST is - where there is none",
		"  verbs, short, categories, flags, gc, ttl, reset VALUES",
		"  introduced, removed VERSION           the first release with this version of the kind, and the first without it",
		"  storage VERSION MESSAGE protobuf|json PREFIX   PREFIX is the path of its keys below the root in etcd",
		"  former RELEASE VERSION MESSAGE        as what it is stored while servers of that release, or an older one, are there",
		"  label LABEL ATTRIBUTE                 a field label and the stored attribute that it selects on",
		"  column TYPE FORMAT PRIORITY NAME      FORMAT is - where there is none; NAME may have spaces",
		"  sub NAME VERSION KIND MESSAGE VERBS   MESSAGE is - where there is none; a reset line may follow",
	)
	for _, r := range resources {
		r.write(b)
	}
	return nil
}

func (r *resource) write(b *bytes.Buffer) {
	fmt.Fprintf(b, "resource %s %s %s %s %s %s %s %s\n", groupVersion(r.gv.Group, r.gv.Version), r.name, r.kind, orDash(r.singular),
		choose(r.namespaced, "namespaced", "cluster"), choose(r.on, "on", "off"), r.message, orDash(r.list))
	list := func(indent, name string, values []string) {
		if len(values) > 0 {
			fmt.Fprintf(b, "%s%s %s\n", indent, name, strings.Join(values, " "))
		}
	}
	list("  ", "verbs", r.verbs)
	list("  ", "short", r.shortNames)
	list("  ", "categories", r.categories)
	list("  ", "flags", r.flags)
	if r.introduced != "" {
		fmt.Fprintf(b, "  introduced %s\n", r.introduced)
	}
	if r.removed != "" {
		fmt.Fprintf(b, "  removed %s\n", r.removed)
	}
	if s := r.storage; s != nil {
		fmt.Fprintf(b, "  gc %s\n", r.gc)
		if r.ttl != 0 {
			fmt.Fprintf(b, "  ttl %d\n", r.ttl)
		}
		fmt.Fprintf(b, "  storage %s %s %s %s\n", groupVersion(s.gv.Group, s.gv.Version), s.message, s.encoding, s.prefix)
		for _, f := range s.former {
			fmt.Fprintf(b, "  former %s %s %s\n", f.until, groupVersion(f.gv.Group, f.gv.Version), f.message)
		}
	}
	list("  ", "reset", r.reset)
	for _, l := range r.fieldLabels {
		fmt.Fprintf(b, "  label %s %s\n", l[0], l[1])
	}
	for _, c := range r.columns {
		fmt.Fprintf(b, "  column %s %s %d %s\n", c.Type, orDash(c.Format), c.Priority, c.Name)
	}
	for _, s := range r.subresources {
		fmt.Fprintf(b, "  sub %s %s %s %s %s\n", s.name, groupVersion(s.gvk.Group, s.gvk.Version), s.gvk.Kind, orDash(s.message), strings.Join(s.verbs, " "))
		list("    ", "reset", s.reset)
	}
}

func orDash(s string) string { return cmp.Or(s, "-") }

func choose(ok bool, yes, no string) string {
	if ok {
		return yes
	}
	return no
}
