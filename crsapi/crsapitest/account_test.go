package crsapitest_test

import (
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestKeyFormat(t *testing.T) {
	if len(crsapitest.SecretID) != 36 || !strings.HasPrefix(crsapitest.SecretID, "AKID") || len(crsapitest.SecretKey) != 32 {
		t.Errorf("SecretID has %d bytes, SecretKey %d: not the documented format", len(crsapitest.SecretID), len(crsapitest.SecretKey))
	}
}

func TestAccounts(t *testing.T) {
	srv, a := newServer(t)
	expect := func(what string, want int) {
		t.Helper()
		if code := a.code(t); code != want {
			t.Errorf("%s: code %d, want %d", what, code, want)
		}
	}
	expect("default account", 0)

	srv.SetAccount(crsapitest.Account{SecretID: a.id, SecretKey: "another key"})
	expect("key replaced", 4100)
	a.key = "another key"
	expect("new key", 0)

	srv.SetAccount(crsapitest.Account{SecretID: "AKIDtemporary", SecretKey: "k", Token: "token-2"})
	a.id, a.key = "AKIDtemporary", "k"
	expect("token missing", 4105)
	a.token = "token-1"
	expect("token wrong", 4105)
	a.token = "token-2"
	expect("token correct", 0)

	srv.RevokeAccount("AKIDtemporary")
	expect("revoked", 4104)
	a.id, a.key, a.token = crsapitest.SecretID, "another key", ""
	expect("the other account", 0)
}

func TestReplay(t *testing.T) {
	_, a := newServer(t)
	r := a.request(t)
	if code := a.do(r).documented(t).Code; code != 0 {
		t.Fatalf("code %d", code)
	}
	if d := a.do(r.Clone(t.Context())).documented(t); d.Code != 4500 || !strings.Contains(d.Message, "server time is 1") {
		t.Errorf("repeated request: code %d %s", d.Code, d.Message)
	}
	if code := a.code(t, "Nonce", "1", "limit", "7"); code != 4500 {
		t.Errorf("another request with the same Nonce: code %d", code)
	}
	// A request with a wrong signature must not use up a Nonce.
	p := a.params("Nonce", "4711")
	p["Signature"] = "AAAA"
	if code := a.do(a.raw(t, encode(p))).documented(t).Code; code != 4100 {
		t.Errorf("wrong signature: code %d", code)
	}
	if code := a.code(t, "Nonce", "4711"); code != 0 {
		t.Errorf("after a wrong signature: code %d", code)
	}
}
