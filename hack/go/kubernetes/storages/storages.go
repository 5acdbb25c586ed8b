// Package storages builds the REST storages of all groups as kube-apiserver does, on a storage that holds
// nothing: what is served, stored and checked can be read off them without a server.
package storages

import (
	"context"
	"fmt"
	"net"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/request/anonymous"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/options"
	serverstorage "k8s.io/apiserver/pkg/server/storage"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/storagebackend"
	"k8s.io/apiserver/pkg/storage/storagebackend/factory"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/kubeapiserver"
	admissionregistrationrest "k8s.io/kubernetes/pkg/registry/admissionregistration/rest"
	apiserverinternalrest "k8s.io/kubernetes/pkg/registry/apiserverinternal/rest"
	appsrest "k8s.io/kubernetes/pkg/registry/apps/rest"
	authenticationrest "k8s.io/kubernetes/pkg/registry/authentication/rest"
	authorizationrest "k8s.io/kubernetes/pkg/registry/authorization/rest"
	autoscalingrest "k8s.io/kubernetes/pkg/registry/autoscaling/rest"
	batchrest "k8s.io/kubernetes/pkg/registry/batch/rest"
	certificatesrest "k8s.io/kubernetes/pkg/registry/certificates/rest"
	coordinationrest "k8s.io/kubernetes/pkg/registry/coordination/rest"
	corerest "k8s.io/kubernetes/pkg/registry/core/rest"
	discoveryrest "k8s.io/kubernetes/pkg/registry/discovery/rest"
	eventsrest "k8s.io/kubernetes/pkg/registry/events/rest"
	flowcontrolrest "k8s.io/kubernetes/pkg/registry/flowcontrol/rest"
	lifecyclerest "k8s.io/kubernetes/pkg/registry/lifecycle/rest"
	networkingrest "k8s.io/kubernetes/pkg/registry/networking/rest"
	noderest "k8s.io/kubernetes/pkg/registry/node/rest"
	policyrest "k8s.io/kubernetes/pkg/registry/policy/rest"
	rbacrest "k8s.io/kubernetes/pkg/registry/rbac/rest"
	resourcerest "k8s.io/kubernetes/pkg/registry/resource/rest"
	schedulingrest "k8s.io/kubernetes/pkg/registry/scheduling/rest"
	storagerest "k8s.io/kubernetes/pkg/registry/storage/rest"
	svmrest "k8s.io/kubernetes/pkg/registry/storagemigration/rest"
	"k8s.io/kubernetes/pkg/serviceaccount"
)

// Built are storages by group version and path.
type Built map[schema.GroupVersion]map[string]rest.Storage

// nothing is a storage backend without objects; only what building a registry asks for answers.
type nothing struct{ storage.Interface }

func (nothing) Versioner() storage.Versioner                        { return storage.APIObjectVersioner{} }
func (nothing) ReadinessCheck() error                               { return nil }
func (nothing) CompactRevision() int64                              { return 0 }
func (nothing) EnableResourceSizeEstimation(storage.KeysFunc) error { return nil }
func (nothing) Watch(context.Context, string, storage.ListOptions) (watch.Interface, error) {
	return watch.NewFake(), nil
}

func newNothing(*storagebackend.ConfigForResource, string, func(runtime.Object) (string, error), func() runtime.Object,
	func() runtime.Object, storage.AttrFunc, storage.IndexerFuncs, *cache.Indexers,
) (storage.Interface, factory.DestroyFunc, error) {
	return nothing{}, func() {}, nil
}

// getter hands that backend to every registry.
type getter struct {
	factory *serverstorage.DefaultStorageFactory
}

func (g getter) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	config, err := g.factory.NewConfig(resource, example)
	if err != nil {
		return generic.RESTOptions{}, err
	}
	return generic.RESTOptions{
		StorageConfig:           config,
		EnableGarbageCollection: true,
		DeleteCollectionWorkers: 1,
		ResourcePrefix:          g.factory.ResourcePrefix(resource),
		Decorator:               newNothing,
	}, nil
}

type provider interface {
	GroupName() string
	NewRESTStorage(serverstorage.APIResourceConfigSource, generic.RESTOptionsGetter) (genericapiserver.APIGroupInfo, error)
}

// Build returns the storages of the versions that config enables, and what storages of other servers are
// built from.
func Build(config *serverstorage.ResourceConfig) (Built, generic.RESTOptionsGetter, error) {
	address, stop, err := etcd{}.listen()
	if err != nil {
		return nil, nil, err
	}
	defer stop()
	etcdOptions := options.NewEtcdOptions(storagebackend.NewDefaultConfig("/registry", nil))
	etcdOptions.DefaultStorageMediaType = runtime.ContentTypeProtobuf // as kube-apiserver sets it
	etcdOptions.StorageConfig.Transport.ServerList = []string{address}
	factoryConfig := kubeapiserver.NewStorageFactoryConfig()
	factoryConfig.APIResourceConfig = config
	storageFactory, err := factoryConfig.Complete(etcdOptions).New()
	if err != nil {
		return nil, nil, err
	}
	from := getter{storageFactory}
	providers, err := providersOf(storageFactory)
	if err != nil {
		return nil, nil, err
	}
	built := Built{}
	for _, p := range providers {
		info, err := p.NewRESTStorage(config, from)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", p.GroupName(), err)
		}
		for version, paths := range info.VersionedResourcesStorageMap {
			built[schema.GroupVersion{Group: p.GroupName(), Version: version}] = paths
		}
	}
	return built, from, nil
}

// providersOf lists the providers of kube-apiserver. Those that make a resource only if they get an
// authorizer, an authenticator or a token issuer get one.
func providersOf(storageFactory *serverstorage.DefaultStorageFactory) ([]provider, error) {
	client := &restclient.Config{Host: "127.0.0.1:1"}
	clients, err := kubernetes.NewForConfig(client)
	if err != nil {
		return nil, err
	}
	shared := informers.NewSharedInformerFactory(clients, 0)
	_, services, err := net.ParseCIDR("10.0.0.0/16")
	if err != nil {
		return nil, err
	}
	authz := authorizerfactory.NewAlwaysAllowAuthorizer()
	core, err := corerest.New(corerest.Config{
		GenericConfig: corerest.GenericConfig{
			StorageFactory: storageFactory, EventTTL: eventTTL, LoopbackClientConfig: client, Informers: shared,
			ServiceAccountIssuer: noTokens{}, ServiceAccountMaxExpiration: time.Hour, APIAudiences: []string{"api"},
		},
		Services: corerest.ServicesConfig{
			ClusterIPRange: *services, NodePortRange: utilnet.PortRange{Base: 30000, Size: 2768}, IPRepairInterval: time.Minute,
		},
	}, authz)
	if err != nil {
		return nil, err
	}
	return []provider{
		core,
		admissionregistrationrest.RESTStorageProvider{Authorizer: authz, DiscoveryClient: clients.Discovery()},
		apiserverinternalrest.StorageProvider{},
		appsrest.StorageProvider{},
		authenticationrest.RESTStorageProvider{Authenticator: anonymous.NewAuthenticator(nil)},
		authorizationrest.RESTStorageProvider{Authorizer: authz},
		autoscalingrest.RESTStorageProvider{},
		batchrest.RESTStorageProvider{},
		certificatesrest.RESTStorageProvider{Authorizer: authz},
		coordinationrest.RESTStorageProvider{},
		discoveryrest.StorageProvider{},
		eventsrest.RESTStorageProvider{TTL: eventTTL},
		flowcontrolrest.RESTStorageProvider{InformerFactory: shared},
		lifecyclerest.RESTStorageProvider{},
		networkingrest.RESTStorageProvider{},
		noderest.RESTStorageProvider{},
		policyrest.RESTStorageProvider{},
		rbacrest.RESTStorageProvider{Authorizer: authz},
		resourcerest.RESTStorageProvider{NamespaceClient: namespaces{clients.CoreV1().Namespaces()}, Authorizer: authz},
		schedulingrest.RESTStorageProvider{},
		storagerest.RESTStorageProvider{},
		svmrest.RESTStorageProvider{},
	}, nil
}

// eventTTL is the default of --event-ttl.
const eventTTL = time.Hour

// noTokens stands for the service account token issuer: without one there is no serviceaccounts/token.
type noTokens struct{ serviceaccount.TokenGenerator }

// namespaces is a client that finds every namespace, and in it what lets claims have administrators' access
// to devices.
type namespaces struct {
	corev1client.NamespaceInterface
}

func (namespaces) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Namespace, error) {
	labels := map[string]string{resourcev1.DRAAdminNamespaceLabelKey: "true"}
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, nil
}

// etcd is as much of it as building storages needs: the port allocator connects, a probe for features
// asks for the version.
type etcd struct {
	etcdserverpb.UnimplementedMaintenanceServer
}

func (etcd) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{Version: "3.6.0"}, nil
}

// listen serves etcd on a port of this machine.
func (e etcd) listen() (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := grpc.NewServer()
	etcdserverpb.RegisterMaintenanceServer(server, e)
	go func() { _ = server.Serve(l) }()
	return "http://" + l.Addr().String(), server.Stop, nil
}
