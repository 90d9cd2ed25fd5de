// Values: what is in a message, and what travels beside it.
package main

import (
	"bytes"
	"encoding/json"
	"strings"
)

func decode(text json.RawMessage) (value any) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber() // integers stay as they are
	decoder.Decode(&value)
	return
}

// resolve puts the buffers where they are referred to.
func (m *message) resolve(value any) any {
	switch value := value.(type) {
	case []any:
		for i, each := range value {
			value[i] = m.resolve(each)
		}
	case object:
		if reference, ok := value["$buffer"].(json.Number); ok && m.Buffers != nil {
			i, err := reference.Int64()
			if err != nil || i < 0 || int(i) >= len(m.buffers) {
				panic(refuse(-32602, "there is no buffer %v", reference))
			}
			return m.buffers[i]
		}
		plain := object{}
		for key, each := range value {
			if m.Buffers != nil {
				key = withoutDollar(key)
			}
			plain[key] = m.resolve(each)
		}
		return plain
	}
	return value
}

// attach is the other way round: it takes the bytes out of a value.
func (m *message) attach(value any, escape bool) any {
	switch value := value.(type) {
	case []byte:
		m.buffers = append(m.buffers, value)
		if len(value) < inlineUpTo {
			m.Buffers = append(m.Buffers, len(value))
		} else {
			m.Buffers = append(m.Buffers, object{"size": len(value), "via": "socket"})
		}
		return object{"$buffer": len(m.buffers) - 1}
	case []any:
		packed := make([]any, len(value))
		for i, each := range value {
			packed[i] = m.attach(each, escape)
		}
		return packed
	case object:
		packed := object{}
		for key, each := range value {
			if escape && strings.HasPrefix(key, "$") {
				key = "$" + key
			}
			packed[key] = m.attach(each, escape)
		}
		return packed
	}
	return value
}

func (m *message) packed(value any) json.RawMessage {
	packed := m.attach(value, false)
	if m.Buffers != nil { // with buffers, keys are escaped
		m.Buffers, m.buffers = nil, nil
		packed = m.attach(value, true)
	}
	text, err := json.Marshal(packed)
	if err != nil {
		panic(refuse(-32002, "the result cannot be sent: %v", err))
	}
	return text
}

func withoutDollar(key string) string {
	if strings.HasPrefix(key, "$$") {
		return key[1:]
	}
	return key
}

// arguments returns what is given by position and by name.
func (m *message) arguments() (args []any, kwargs object) {
	kwargs = object{}
	switch params := decode(m.Params).(type) {
	case nil:
	case []any:
		args = params
	case object:
		_, some := params["$args"]
		_, others := params["$kwargs"]
		if some || others {
			args, _ = params["$args"].([]any)
			named, _ := params["$kwargs"].(object)
			delete(params, "$args")
			delete(params, "$kwargs")
			if len(params) > 0 {
				panic(refuse(-32600, "nothing may stand beside $args and $kwargs"))
			}
			params = named
		}
		for key, value := range params {
			kwargs[withoutDollar(key)] = m.resolve(value)
		}
	default:
		panic(refuse(-32600, "params is neither an array nor an object"))
	}
	for i, value := range args {
		args[i] = m.resolve(value)
	}
	return
}
