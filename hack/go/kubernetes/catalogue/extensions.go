package main

import (
	crdv1beta1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1beta1"
	crdregistry "k8s.io/apiextensions-apiserver/pkg/registry/customresourcedefinition"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/registry/generic"
	"k8s.io/apiserver/pkg/registry/rest"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	apiserviceregistry "k8s.io/kube-aggregator/pkg/registry/apiservice/etcd"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"navarch/hack/go/kubernetes/storages"
)

// legacy stores JSON of one version, as the two other servers do (controlplane/apiserver/apiextensions.go
// and aggregator.go upstream).
type legacy struct {
	generic.RESTOptionsGetter
	gv schema.GroupVersion
}

func (l legacy) GetRESTOptions(resource schema.GroupResource, example runtime.Object) (generic.RESTOptions, error) {
	o, err := l.RESTOptionsGetter.GetRESTOptions(resource, example)
	if err != nil {
		return o, err
	}
	config := *o.StorageConfig
	config.Codec = legacyscheme.Codecs.LegacyCodec(l.gv)
	config.EncodeVersioner = runtime.NewMultiGroupVersioner(l.gv, schema.GroupKind{Group: l.gv.Group})
	o.StorageConfig = &config
	return o, nil
}

// addExtensionServers adds the one resource of each of the two other servers inside kube-apiserver.
func addExtensionServers(built storages.Built, getter generic.RESTOptionsGetter) error {
	crds, err := crdregistry.NewREST(scheme, legacy{getter, crdv1beta1.SchemeGroupVersion})
	if err != nil {
		return err
	}
	built[schema.GroupVersion{Group: "apiextensions.k8s.io", Version: "v1"}] = map[string]rest.Storage{
		"customresourcedefinitions":        crds,
		"customresourcedefinitions/status": crdregistry.NewStatusREST(scheme, crds),
	}
	apiservices := apiserviceregistry.NewREST(scheme, legacy{getter, apiregistrationv1.SchemeGroupVersion})
	built[schema.GroupVersion{Group: "apiregistration.k8s.io", Version: "v1"}] = map[string]rest.Storage{
		"apiservices":        apiservices,
		"apiservices/status": apiserviceregistry.NewStatusREST(scheme, apiservices),
	}
	return nil
}
