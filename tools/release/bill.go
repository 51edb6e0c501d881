package main

import (
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// project begins the paths of the project's own modules, which are released together.
const project = "postrider.dev/postrider"

// writeBill writes the bill of materials of a program as CycloneDX JSON: the modules that
// are linked into it, as it says itself, and Go's standard library.
func (r release) writeBill(w io.Writer, p program, executable string) error {
	info, err := buildinfo.ReadFile(executable)
	if err != nil {
		return err
	}
	sum, err := sumOf(executable)
	if err != nil {
		return err
	}
	subject := cdx.Component{
		BOMRef: "pkg:golang/" + info.Path + "@" + r.version, Type: cdx.ComponentTypeApplication, Name: p.name, Version: r.version,
		Description: p.purpose, PackageURL: "pkg:golang/" + info.Path + "@" + r.version,
		Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}},
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "MIT"}}},
	}
	bill := cdx.NewBOM()
	// The number is the program's own, so that the same program has the same bill.
	bill.SerialNumber = serialOf(sum)
	bill.Metadata = &cdx.Metadata{Timestamp: r.time.Format(time.RFC3339), Component: &subject}
	components := r.components(info)
	parts := make([]string, len(components))
	for i, c := range components {
		parts[i] = c.BOMRef
	}
	bill.Components = &components
	bill.Dependencies = &[]cdx.Dependency{{Ref: subject.BOMRef, Dependencies: &parts}}
	encoder := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON)
	encoder.SetPretty(true)
	return encoder.EncodeVersion(bill, cdx.SpecVersion1_6)
}

// serialOf makes a UUID of a hash: version 8 of RFC 9562, which leaves its bits to the maker.
func serialOf(sum []byte) string {
	id := slices.Clone(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

func (r release) components(info *debug.BuildInfo) []cdx.Component {
	components := make([]cdx.Component, 0, 1+len(info.Deps))
	components = append(components, r.component(&debug.Module{Path: "std", Version: strings.TrimPrefix(info.GoVersion, "go")}))
	for _, m := range info.Deps {
		if m.Replace != nil && !strings.HasPrefix(m.Path, project) {
			m = m.Replace
		}
		components = append(components, r.component(m))
	}
	return components
}

// component describes a module. Its hash is that of go.sum: of all its files.
func (r release) component(m *debug.Module) cdx.Component {
	version := m.Version
	if strings.HasPrefix(m.Path, project) {
		version = r.version
	}
	c := cdx.Component{
		Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: version, Scope: cdx.ScopeRequired,
		PackageURL: "pkg:golang/" + m.Path + "@" + version,
	}
	c.BOMRef = c.PackageURL
	if sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:")); err == nil && len(sum) > 0 {
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}}
	}
	return c
}
