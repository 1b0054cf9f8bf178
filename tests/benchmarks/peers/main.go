// Copyright: (c) 2026, baremetal.llm maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// Asks gguf-parser-go what runs of llama.cpp take: JSON cases on standard input, JSON answers in their order.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	. "github.com/gpustack/gguf-parser-go"
)

// What the library's own command adds to each GPU for the driver's context unless it is told otherwise.
const footprintBytes = 250 << 20

type question struct {
	Path           string    `json:"gguf"`
	ContextTokens  int32     `json:"context_tokens"`
	Slots          int32     `json:"slots"`
	Batch          int32     `json:"batch"`
	Ubatch         int32     `json:"ubatch"`
	KVType         string    `json:"kv_type"`
	FlashAttention bool      `json:"flash_attention"`
	GPULayers      uint64    `json:"gpu_layers"`
	Split          []float64 `json:"split"`
}

type answer struct {
	MiB    float64 `json:"mib,omitempty"`
	Failed string  `json:"failed,omitempty"`
}

func ask(asked question) (given answer) {
	defer func() {
		if reason := recover(); reason != nil {
			given = answer{Failed: fmt.Sprint(reason)}
		}
	}()
	file, err := ParseGGUFFile(asked.Path)
	if err != nil {
		return answer{Failed: err.Error()}
	}
	kinds := map[string]GGMLType{"f16": GGMLTypeF16, "q8_0": GGMLTypeQ8_0, "q4_0": GGMLTypeQ4_0}
	options := []GGUFRunEstimateOption{
		WithLLaMACppContextSize(asked.ContextTokens), WithParallelSize(asked.Slots),
		WithLLaMACppLogicalBatchSize(asked.Batch), WithLLaMACppPhysicalBatchSize(asked.Ubatch),
		WithLLaMACppCacheKeyType(kinds[asked.KVType]), WithLLaMACppCacheValueType(kinds[asked.KVType]),
		WithLLaMACppOffloadLayers(asked.GPULayers), WithTensorSplitFraction(asked.Split),
	}
	if asked.FlashAttention {
		options = append(options, WithFlashAttention())
	}
	for _, device := range file.EstimateLLaMACppRun(options...).SummarizeItem(true, 0, footprintBytes).VRAMs {
		given.MiB += float64(device.NonUMA) / (1 << 20)
	}
	return given
}

func main() {
	var cases []question
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		fmt.Fprintln(os.Stderr, "standard input is no list of cases:", err)
		os.Exit(1)
	}
	answers := make([]answer, len(cases))
	for number, asked := range cases {
		answers[number] = ask(asked)
	}
	_ = json.NewEncoder(os.Stdout).Encode(answers)
}
