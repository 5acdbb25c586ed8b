package main

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// allowGets allows the verb get, has no opinion on what is called nothing, and fails where the name says so.
type allowGets struct{}

func (allowGets) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	switch {
	case a.GetName() == "broken":
		return authorizer.DecisionNoOpinion, "", errors.New("it is broken")
	case a.GetVerb() == "get":
		return authorizer.DecisionAllow, "gets are allowed", nil
	}
	return authorizer.DecisionDeny, "only gets are allowed", nil
}

// aPod is the resource of the request.
type aPod struct{}

func (aPod) GetName() string      { return "a" }
func (aPod) GetNamespace() string { return "default" }
func (aPod) GetResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "pods"}
}
func (aPod) GetSubresource() string { return "" }
