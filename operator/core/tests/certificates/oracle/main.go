// Makes certificates and keys of every kind, in sound and in odd texts, and says of each whether Go loads it, one JSON
// line per question: as a `ca` (AppendCertsFromPEM) or as a client's pair (X509KeyPair), the two calls that containerd's
// remotes/docker/config/hosts.go makes.
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"os"
	"strings"
	"time"
)

type question struct {
	Name string `json:"name"`
	// Of authorities, or of a client where there is a key.
	Certificates string `json:"certificates"`
	Key          string `json:"key"`
	Loads        bool   `json:"loads"`
}

var answers = json.NewEncoder(os.Stdout)

func ask(name, certificates, key string) {
	answer := question{Name: name, Certificates: certificates, Key: key}
	if key == "" {
		answer.Loads = x509.NewCertPool().AppendCertsFromPEM([]byte(certificates))
	} else {
		_, err := tls.X509KeyPair([]byte(certificates), []byte(key))
		answer.Loads = err == nil
	}
	if err := answers.Encode(answer); err != nil {
		log.Fatal(err)
	}
}

type kind struct {
	name        string
	certificate []byte
	keys        map[string]string
}

func block(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// RFC 5915.
type sec1 struct {
	Version int
	Private []byte
	Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
}

type pkcs8 struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Private   []byte
}

var curves = map[string]asn1.ObjectIdentifier{
	"P-224": {1, 3, 132, 0, 33}, "P-256": {1, 2, 840, 10045, 3, 1, 7},
	"P-384": {1, 3, 132, 0, 34}, "P-521": {1, 3, 132, 0, 35},
}

func make_kind(name string, key crypto.Signer, serial int64) kind {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now(),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"m.example.com"},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	made := kind{name, der, map[string]string{"PKCS#8": block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))}}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		made.keys["PKCS#1"] = block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
		made.keys["PKCS#1 under the wrong label"] = block("PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	case *ecdsa.PrivateKey:
		made.keys["SEC 1"] = block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key)))
		curve := curves[key.Curve.Params().Name]
		secret := key.D.FillBytes(make([]byte, (key.Curve.Params().BitSize+7)/8))
		bare := sec1{Version: 1, Private: secret, Curve: curve}
		made.keys["SEC 1 without its point"] = block("EC PRIVATE KEY", must(asn1.Marshal(bare)))
		bare.Curve = nil
		inner := must(asn1.Marshal(bare))
		made.keys["SEC 1 without its curve"] = block("EC PRIVATE KEY", inner)
		algorithm := pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1},
			Parameters: asn1.RawValue{FullBytes: must(asn1.Marshal(curve))},
		}
		made.keys["PKCS#8 without its point"] = block("PRIVATE KEY", must(asn1.Marshal(pkcs8{0, algorithm, inner})))
	}
	return made
}

func kinds() []kind {
	var made []kind
	for _, serial := range []int64{1, 2} {
		named := func(name string) string { return fmt.Sprintf("%s %d", name, serial) }
		for _, bits := range []int{1024, 2048} {
			key := must(rsa.GenerateKey(rand.Reader, bits))
			made = append(made, make_kind(named(fmt.Sprintf("RSA %d", bits)), key, serial))
		}
		for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
			key := must(ecdsa.GenerateKey(curve, rand.Reader))
			made = append(made, make_kind(named(curve.Params().Name), key, serial))
		}
		_, key, err := ed25519.GenerateKey(rand.Reader)
		made = append(made, make_kind(named("Ed25519"), must(key, err), serial))
	}
	return made
}

func main() {
	all := kinds()
	for _, certificate := range all {
		text := block("CERTIFICATE", certificate.certificate)
		ask("authority "+certificate.name, text, "")
		for _, other := range all {
			for form, key := range other.keys {
				ask(fmt.Sprintf("certificate %s, key %s in %s", certificate.name, other.name, form), text, key)
			}
		}
	}
	texts(all[3])
	authorities()
}

// Those that Debian trusts, one by one: real ones, of many hands.
func authorities() {
	bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	if err != nil {
		log.Print(err)
	}
	for number := 1; ; number++ {
		var next *pem.Block
		if next, bundle = pem.Decode(bundle); next == nil {
			return
		}
		ask(fmt.Sprintf("authority %d of Debian", number), block("CERTIFICATE", next.Bytes), "")
	}
}

// Odd texts of one certificate and its key.
func texts(of kind) {
	good, key := block("CERTIFICATE", of.certificate), of.keys["PKCS#8"]
	lines := strings.Split(strings.TrimSpace(good), "\n")
	body := strings.Join(lines[1:len(lines)-1], "")
	around := func(body string) string { return lines[0] + "\n" + body + "\n" + lines[len(lines)-1] + "\n" }
	junk := block("CERTIFICATE", []byte{0x30, 3, 2, 1, 3})
	odd := map[string]string{
		"carriage returns":            strings.ReplaceAll(good, "\n", "\r\n"),
		"no line break at the end":    strings.TrimSpace(good),
		"prose around":                "my CA: this\n\n" + good + "that's all\n",
		"twice":                       good + good,
		"on one line":                 around(body),
		"blanks in lines":             around(strings.Join(lines[1:len(lines)-1], " \t\n")),
		"blanks between letters":      around(body[:10] + " " + body[10:]),
		"empty lines":                 around("\n" + body[:64] + "\n\n" + body[64:]),
		"blanks behind the dashes":    strings.ReplaceAll(good, "CATE-----", "CATE----- \t"),
		"indented whole":              "  " + strings.ReplaceAll(strings.TrimSpace(good), "\n", "\n  ") + "\n",
		"indented end":                strings.Replace(good, "-----END", " -----END", 1),
		"indented beginning":          strings.Replace(good, "-----BEGIN", " -----BEGIN", 1),
		"header lines":                around("Name: x\n\n" + body),
		"a colon in the body":         around(body[:64] + "\nName: x\n" + body[64:]),
		"byte-order mark":             "\ufeff" + good,
		"no end":                      strings.Join(lines[:len(lines)-1], "\n") + "\n",
		"another end":                 strings.Replace(good, "END CERTIFICATE", "END CERT", 1),
		"trusted":                     strings.ReplaceAll(good, "CERTIFICATE", "TRUSTED CERTIFICATE"),
		"in lower case":               strings.ReplaceAll(good, "CERTIFICATE", "certificate"),
		"junk":                        junk,
		"junk, then a certificate":    junk + good,
		"a certificate, then junk":    good + junk,
		"cut short":                   block("CERTIFICATE", of.certificate[:len(of.certificate)-9]),
		"bytes behind":                block("CERTIFICATE", append(append([]byte{}, of.certificate...), 0)),
		"no padding":                  strings.Replace(good, "=", "", -1),
		"nothing":                     "\n",
		"an empty block":              lines[0] + "\n" + lines[len(lines)-1] + "\n",
		"an empty block, then one":    lines[0] + "\n" + lines[len(lines)-1] + "\n" + good,
		"a beginning, then a block":   lines[0] + "\n" + good,
		"a key among them":            key + good,
		"not base64":                  strings.Replace(good, "M", "!", 1),
		"other bits in the last byte": around(strings.TrimRight(body, "=")),
	}
	for name, text := range odd {
		ask("authority with "+name, text, "")
		ask("client with "+name, text, key)
	}
	keyLines := strings.Split(strings.TrimSpace(key), "\n")
	parameters := block("EC PARAMETERS", must(asn1.Marshal(curves["P-256"])))
	for name, text := range map[string]string{
		"carriage returns":   strings.ReplaceAll(key, "\n", "\r\n"),
		"its curve before":   parameters + of.keys["SEC 1"],
		"two keys":           key + key,
		"a certificate":      good,
		"encrypted":          strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE"),
		"encryption headers": strings.Replace(key, "KEY-----\n", "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n", 1),
		"plain headers":      strings.Replace(key, "KEY-----\n", "KEY-----\nName: x\n\n", 1),
		"another label":      strings.ReplaceAll(key, "PRIVATE KEY", "SECRET KEY"),
		"no end":             strings.Join(keyLines[:len(keyLines)-1], "\n") + "\n",
		"junk":               block("PRIVATE KEY", []byte{0x30, 3, 2, 1, 0}),
	} {
		ask("key with "+name, good, text)
	}
}
