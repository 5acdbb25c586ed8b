package storages

import (
	"reflect"

	genericregistry "k8s.io/apiserver/pkg/registry/generic/registry"
	"k8s.io/apiserver/pkg/registry/rest"
)

// StoreOf finds the generic store inside a storage, which most wrap in a struct of their own, some in
// a private field.
func StoreOf(st rest.Storage) *genericregistry.Store {
	return storeOf(reflect.ValueOf(st))
}

func storeOf(v reflect.Value) *genericregistry.Store {
	if v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		if v.IsNil() {
			return nil
		}
		if v.Type() == reflect.TypeFor[*genericregistry.Store]() {
			return (*genericregistry.Store)(v.UnsafePointer())
		}
		return storeOf(v.Elem())
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Name == "Store" || f.Name == "store" || f.Anonymous {
			if s := storeOf(v.Field(i)); s != nil {
				return s
			}
		}
	}
	return nil
}
