// Frames and buffers: bytes in, messages out, and the other way round.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

const (
	maxMessage   = 64 << 20
	maxBuffers   = 1 << 30
	inlineUpTo   = 32 << 10 // larger ones go by the socket
	sealedFully  = 0x2 | 0x4 | 0x8
	fcntlGetSeal = 1034
)

type object = map[string]any

// A message, in either direction. Raw where the codec decides, as with ids that may be texts.
type message struct {
	Version  string          `json:"jsonrpc"`
	ID       json.RawMessage `json:"id,omitempty"`
	Method   string          `json:"method,omitempty"`
	Params   json.RawMessage `json:"params,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    *failure        `json:"error,omitempty"`
	Deadline *int64          `json:"deadline_ms,omitempty"`
	Credit   *int64          `json:"credit,omitempty"`
	Within   json.RawMessage `json:"within,omitempty"`
	Buffers  []any           `json:"buffers,omitempty"`
	Command  string          `json:"cmd,omitempty"`
	buffers  [][]byte
}

type failure struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Data    object `json:"data,omitempty"`
}

func (f *failure) Error() string { return f.Message }

func refuse(code int, format string, values ...any) error {
	return &failure{Code: code, Message: fmt.Sprintf(format, values...)}
}

var (
	commands, replies *os.File
	side              int // the socket
	writing           sync.Mutex
)

func cutOff(reason string, values ...any) {
	fmt.Fprintf(os.Stderr, reason+"\n", values...)
	os.Exit(1)
}

func send(m *message) {
	m.Version = "2.0"
	body, err := json.Marshal(m)
	if err != nil {
		panic(err) // all values were made by us
	}
	sendFrame(body, m.buffers, m.Buffers)
}

func sendFrame(body []byte, buffers [][]byte, announced []any) {
	inline := []byte{}
	for i, buffer := range buffers {
		if _, ok := announced[i].(int); ok {
			inline = append(inline, buffer...)
		}
	}
	frame := binary.LittleEndian.AppendUint32(nil, uint32(len(body)+len(inline)))
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(body)))
	frame = binary.LittleEndian.AppendUint32(frame, 0)
	frame = append(append(frame, body...), inline...)
	writing.Lock()
	defer writing.Unlock()
	replies.Write(frame)
	for i, buffer := range buffers {
		if _, ok := announced[i].(int); ok {
			continue
		}
		for len(buffer) > 0 {
			n, err := syscall.Write(side, buffer)
			if err != nil && err != syscall.EINTR {
				cutOff("writing to the socket: %v", err)
			}
			buffer = buffer[max(n, 0):]
		}
	}
}

func receive() *message {
	header := make([]byte, 12)
	if _, err := io.ReadFull(commands, header); err != nil {
		os.Exit(0) // the host is gone
	}
	length := binary.LittleEndian.Uint32(header)
	size := binary.LittleEndian.Uint32(header[4:])
	if binary.LittleEndian.Uint32(header[8:]) != 0 || size > length || size > maxMessage ||
		length-size > maxBuffers {
		cutOff("a frame has the header %x", header)
	}
	frame := make([]byte, length)
	if _, err := io.ReadFull(commands, frame); err != nil {
		os.Exit(0)
	}
	m := &message{}
	if err := json.Unmarshal(frame[:size], m); err != nil {
		cutOff("a frame holds no message: %v", err)
	}
	m.take(frame[size:])
	return m
}

func (m *message) take(inline []byte) {
	for _, announced := range m.Buffers {
		size, way := 0.0, "inline"
		switch entry := announced.(type) {
		case float64:
			size = entry
		case object:
			size, _ = entry["size"].(float64)
			way, _ = entry["via"].(string)
		}
		if size < 0 || size > maxBuffers || way == "inline" && int(size) > len(inline) {
			cutOff("a message announces the buffer %v", announced)
		}
		switch way {
		case "inline":
			m.buffers = append(m.buffers, inline[:int(size)])
			inline = inline[int(size):]
		case "socket":
			m.buffers = append(m.buffers, readSocket(int(size)))
		case "memory":
			m.buffers = append(m.buffers, readMemory(int(size)))
		default:
			cutOff("a message announces the buffer %v", announced)
		}
	}
	if len(inline) > 0 {
		cutOff("%d bytes of a frame belong to no buffer", len(inline))
	}
}

func readSocket(size int) []byte {
	buffer := make([]byte, size)
	for got := 0; got < size; {
		n, err := syscall.Read(side, buffer[got:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || n == 0 {
			cutOff("the socket ended in the middle of a buffer")
		}
		got += n
	}
	return buffer
}

func readMemory(size int) []byte {
	oob := make([]byte, syscall.CmsgSpace(4))
	n, oobn, _, _, err := syscall.Recvmsg(side, make([]byte, 1), oob, syscall.MSG_CMSG_CLOEXEC)
	control, _ := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil || n != 1 || len(control) != 1 {
		cutOff("no memory file came where one was announced")
	}
	files, err := syscall.ParseUnixRights(&control[0])
	if err != nil || len(files) != 1 {
		cutOff("no memory file came where one was announced")
	}
	file := os.NewFile(uintptr(files[0]), "buffer")
	defer file.Close()
	seals, _, _ := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), fcntlGetSeal, 0)
	info, err := file.Stat()
	if err != nil || info.Size() != int64(size) || seals&sealedFully != sealedFully {
		cutOff("a memory file is not as it was announced")
	}
	buffer := make([]byte, size)
	if _, err := file.ReadAt(buffer, 0); err != nil {
		cutOff("reading a memory file: %v", err)
	}
	return buffer
}
