// Reads hosts.toml files with containerd's own code and prints what came out, one JSON line per request.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

type request struct {
	Dir  string `json:"dir"`
	Host string `json:"host"`
}

type host struct {
	URL          string      `json:"url"`
	Capabilities int         `json:"capabilities"`
	Header       http.Header `json:"header"`
	SkipVerify   bool        `json:"skipVerify"`
	Roots        bool        `json:"roots"`
	Certificates int         `json:"certificates"`
	HTTPSFirst   bool        `json:"httpsFirst"`
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "certificates" {
		if err := certificates(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	requests := json.NewDecoder(os.Stdin)
	for {
		var next request
		if err := requests.Decode(&next); err != nil {
			return
		}
		answer(next)
	}
}

func answer(next request) {
	var result any
	defer func() {
		if reason := recover(); reason != nil {
			result = map[string]string{"error": fmt.Sprint("panic: ", reason)}
		}
		line, _ := json.Marshal(result)
		fmt.Println(string(line))
	}()
	registryHosts, err := configure(context.Background(), next.Dir)(next.Host)
	if err != nil {
		result = map[string]string{"error": err.Error()}
		return
	}
	hosts := []host{}
	for _, from := range registryHosts {
		to := host{
			URL:          from.Scheme + "://" + from.Host + from.Path,
			Capabilities: int(from.Capabilities),
			Header:       from.Header,
		}
		if transport, plain := from.Client.Transport.(*http.Transport); plain {
			to.SkipVerify = transport.TLSClientConfig.InsecureSkipVerify
			to.Roots = transport.TLSClientConfig.RootCAs != nil
			to.Certificates = len(transport.TLSClientConfig.Certificates)
		} else {
			to.HTTPSFirst = true
		}
		hosts = append(hosts, to)
	}
	result = hosts
}

// certificates writes ca.pem, client.pem, key.pem, and both.pem, which holds the two.
func certificates(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	for name, content := range map[string][]byte{
		"ca.pem": certificate, "client.pem": certificate, "key.pem": private, "both.pem": append(certificate, private...),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
