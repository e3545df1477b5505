package pcmk

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
)

// Limits of what is parsed, so that a broken tool cannot take the agent's memory: a CIB of two nodes with
// 200 resources has some 20 levels and 10,000 elements.
const (
	maxXMLBytes    = 16 << 20
	maxXMLDepth    = 64
	maxXMLElements = 400_000
)

// element is a parsed XML element; text between elements is dropped, Pacemaker keeps data in attributes.
type element struct {
	name     string
	attrs    map[string]string
	children []*element
	text     string
}

func parseXML(data []byte) (*element, error) {
	if len(data) > maxXMLBytes {
		return nil, fmt.Errorf("parse XML: %d bytes are too many", len(data))
	}
	dec := xml.NewDecoder(bytes.NewReader(data))
	var stack []*element
	var root *element
	count := 0
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("parse XML: %w", err)
		}
		switch t := tok.(type) {
		case xml.StartElement:
			if count++; count > maxXMLElements || len(stack) >= maxXMLDepth {
				return nil, fmt.Errorf("parse XML: too large or too deep at <%s>", t.Name.Local)
			}
			e, err := newElement(t)
			if err != nil {
				return nil, err
			}
			switch {
			case len(stack) > 0:
				parent := stack[len(stack)-1]
				parent.children = append(parent.children, e)
			case root == nil:
				root = e
			default:
				return nil, fmt.Errorf("parse XML: second root <%s>", e.name)
			}
			stack = append(stack, e)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(stack) > 0 {
				stack[len(stack)-1].text += strings.TrimSpace(string(t))
			}
		}
	}
	if root == nil || len(stack) > 0 {
		return nil, errors.New("parse XML: no complete document")
	}
	return root, nil
}

func newElement(t xml.StartElement) (*element, error) {
	e := &element{name: t.Name.Local, attrs: make(map[string]string, len(t.Attr))}
	for _, a := range t.Attr {
		if _, dup := e.attrs[a.Name.Local]; dup {
			return nil, fmt.Errorf("parse XML: attribute %s twice in <%s>", a.Name.Local, e.name)
		}
		e.attrs[a.Name.Local] = a.Value
	}
	return e, nil
}

func (e *element) child(name string) *element {
	if e == nil {
		return nil
	}
	for _, c := range e.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// at walks down: e.at("configuration", "resources"). Nil if a step is missing.
func (e *element) at(names ...string) *element {
	for _, n := range names {
		e = e.child(n)
	}
	return e
}

// each iterates over the direct children of that name; of all names if name is "".
func (e *element) each(name string) iter.Seq[*element] {
	return func(yield func(*element) bool) {
		if e == nil {
			return
		}
		for _, c := range e.children {
			if (name == "" || c.name == name) && !yield(c) {
				return
			}
		}
	}
}

// walk visits e and everything below it until f says false.
func (e *element) walk(f func(*element) bool) bool {
	if e == nil {
		return true
	}
	if !f(e) {
		return false
	}
	for _, c := range e.children {
		if !c.walk(f) {
			return false
		}
	}
	return true
}

func (e *element) attr(name string) string {
	if e == nil {
		return ""
	}
	return e.attrs[name]
}

func (e *element) boolean(names ...string) Bool {
	for _, n := range names {
		if v, ok := e.attrs[n]; ok {
			return parseBool(v)
		}
	}
	return Unknown
}

// Bool is a yes or no that may be missing.
type Bool uint8

const (
	Unknown Bool = iota
	No
	Yes
)

func (b Bool) String() string {
	switch b {
	case Yes:
		return "yes"
	case No:
		return "no"
	}
	return "unknown"
}

// parseBool knows Pacemaker's spellings (crm_str_to_boolean); anything else is Unknown.
func parseBool(v string) Bool {
	switch strings.ToLower(v) {
	case "true", "on", "yes", "y", "1":
		return Yes
	case "false", "off", "no", "n", "0":
		return No
	}
	return Unknown
}
