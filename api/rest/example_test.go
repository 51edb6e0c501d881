package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// greeting is the body of a request and the answer to it.
type greeting struct {
	Name string `json:"name" minLength:"1" maxLength:"10"`
	Lang string `json:"lang,omitempty" enum:"de,en" default:"en"`
}

// newGreetings returns an API whose only key is "secret".
func newGreetings() *rest.API {
	return rest.New(rest.Config{
		Document: rest.Document{Title: "Greetings", Version: "1"},
		Authorize: func(_ context.Context, secret string, _ postrider.Scope) (postrider.APIKey, error) {
			if secret != "secret" {
				return postrider.APIKey{}, &postrider.Error{Code: postrider.CodeUnauthorized, Message: "the API key is not valid"}
			}
			return postrider.APIKey{WorkspaceID: "ws_1"}, nil
		},
		Now:          time.Now,
		NewRequestID: func() string { return "req_1" },
		Logger:       slog.New(slog.DiscardHandler),
	})
}

// call sends a request and prints the answer. Of a refusal it prints the detail and the errors.
func call(a *rest.API, method, path, key, body string) {
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set(rest.HeaderAPIKey, key)
	w := httptest.NewRecorder()
	a.ServeHTTP(w, request)
	if w.Code < http.StatusBadRequest {
		fmt.Print(w.Code, " ", w.Body) //nolint:forbidigo // the output of the example
		return
	}
	var refused problem
	if err := json.Unmarshal(w.Body.Bytes(), &refused); err != nil {
		panic(err)
	}
	fmt.Println(w.Code, refused.Detail) //nolint:forbidigo // the output of the example
	for _, e := range refused.Errors {
		fmt.Println("  ", e.Location, e.Message) //nolint:forbidigo // the output of the example
	}
}

// A route with a body: its rules are the tags of its type, and a handler sees only bodies
// that keep to them.
func ExampleHandleBody() {
	a := newGreetings()
	rest.HandleBody(a, rest.Route{
		Method: http.MethodPost, Path: "/greetings", ID: "greet", Tag: "Greetings", Scope: postrider.ScopePublish,
	}, rest.JSONBody(a, func() greeting { return greeting{Lang: "en"} }),
		func(_ context.Context, _ *struct{}, asked greeting) (*rest.Output[greeting], error) {
			return &rest.Output[greeting]{Body: asked}, nil
		})

	call(a, http.MethodPost, "/greetings", "secret", `{"name":"Ada"}`)
	call(a, http.MethodPost, "/greetings", "secret", `{"name":"","lang":"fr"}`)
	call(a, http.MethodPost, "/greetings", "wrong", `{"name":"Ada"}`)
	// Output:
	// 200 {"name":"Ada","lang":"en"}
	// 422 validation failed
	//    body.lang expected value to be one of "de, en"
	//    body.name expected length >= 1
	// 401 the API key is not valid
}

// A PATCH changes the fields that were sent, and can ask which those were.
func ExamplePatchBody() {
	a := newGreetings()
	type change struct {
		Lang *string `json:"lang,omitempty" nullable:"true" enum:"de,en"`
	}
	stored := greeting{Name: "Ada", Lang: "de"}
	rest.HandleBody(a, rest.Route{
		Method: http.MethodPatch, Path: "/greeting", ID: "change", Tag: "Greetings", Scope: postrider.ScopeManage,
	}, rest.PatchBody[change](a), func(_ context.Context, _ *struct{}, patch rest.Patch[change]) (*rest.Output[greeting], error) {
		if patch.IsNull("lang") {
			stored.Lang = "en"
			return &rest.Output[greeting]{Body: stored}, nil
		}
		err := patch.ApplyTo(&stored)
		return &rest.Output[greeting]{Body: stored}, err
	})

	call(a, http.MethodPatch, "/greeting", "secret", `{}`)
	call(a, http.MethodPatch, "/greeting", "secret", `{"lang":null}`)
	// Output:
	// 200 {"name":"Ada","lang":"de"}
	// 200 {"name":"Ada","lang":"en"}
}
