// The method of bins: what is left after a prediction, divided into ranges.
#ifndef ZIPLLM_CODECS_TABLE_TABLE_BINS_H_
#define ZIPLLM_CODECS_TABLE_TABLE_BINS_H_

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "codecs/codec.h"
#include "codecs/table/table_columns.h"
#include "codecs/table/table_format.h"

namespace zipllm::codecs::table {

/// The predictor of those that the method knows that leaves least.
uint8_t FindPredictor(const Column& column, uint64_t row);

/// Appends the columns; the table's fields say how they are predicted.
void WriteBins(const Table& table, const std::vector<Column>& columns,
               Scratch& scratch, Buffer* out);

}  // namespace zipllm::codecs::table

#endif  // ZIPLLM_CODECS_TABLE_TABLE_BINS_H_
