// Codec log: records of many forms, what templates and columns are made of
// them, damage with aim.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "codecs/coding.h"
#include "codecs/generators.h"
#include "codecs/log/log_format.h"

namespace zipllm::codecs {
namespace {

using columns::Values;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr CodecId kLog = 25;

EncodeRequest RequestFor(std::string_view text, int level = 3) {
  EncodeRequest request{.data = AsBytes(text),
                        .block_size = text.size(),
                        .dtype = DType::kBytes,
                        .level = level};
  request.is_text = request.is_lines = true;
  return request;
}

Bytes Code(std::string_view text, int level = 3) {
  Scratch scratch;
  const auto plan = FindEncoder(kLog)->plan(RequestFor(text, level), scratch);
  Buffer coded;
  EXPECT_TRUE(plan != nullptr && plan->Encode(AsBytes(text), scratch, &coded));
  return {coded.begin(), coded.end()};
}

/// The coded block, having been decoded again.
Bytes Check(std::string_view text, int level = 3) {
  Bytes coded = Code(text, level);
  const auto decoded = DecodeBlock(*FindDecoder(kLog), {}, coded, text.size());
  EXPECT_TRUE(decoded.has_value() &&
              std::ranges::equal(*decoded, AsBytes(text)));
  return coded;
}

/// The templates of a coded block: "<c>" is a value of column c.
std::vector<std::string> TemplatesOf(ByteSpan coded) {
  ByteReader reader(coded);
  Scratch scratch;
  log::Templates templates;
  EXPECT_TRUE(templates.Read(reader, size_t{1} << 24, {}, scratch).ok());
  std::vector<std::string> out;
  for (size_t i = 0; i < templates.size(); ++i) {
    std::string& text = out.emplace_back();
    for (const log::Item& item : templates[i]) {
      const ByteSpan literal = templates.Literal(item);
      text.append(literal.begin(), literal.end());
      if (item.column == log::kNoColumn) break;
      text += "<" + std::to_string(item.column) + ">";
    }
  }
  return out;
}

/// `line` with every # replaced by a number, many times over.
std::string Lines(std::initializer_list<std::string_view> lines, int times,
                  uint64_t seed = 1) {
  Random random(seed);
  std::string text;
  for (int i = 0; i < times; ++i) {
    for (const char c : lines.begin()[random.Below(lines.size())]) {
      if (c == '#') {
        text += std::to_string(random.Below(100000));
      } else {
        text += c;
      }
    }
  }
  return text;
}

TEST(LogTest, FindsTemplates) {
  const std::string text = Lines(
      {"job # took # ms\n", "peer # is gone\n", "cache: evicted #, kept #\n"},
      600);
  EXPECT_THAT(TemplatesOf(Check(text)),
              testing::UnorderedElementsAre(HasSubstr("> ms\n"),
                                            HasSubstr(" is gone\n"),
                                            HasSubstr("cache: evicted <")));
}

TEST(LogTest, LinesThatBeginAlikeShareColumns) {
  std::string text;
  for (int i = 0; i < 600; ++i) {
    text += "Nov 22 10:" + std::to_string(10 + i / 60) + ":" +
            std::to_string(10 + i % 50) + " host app[" +
            std::to_string(400 + i % 7) +
            "]: " + (i % 3 == 0 ? "started" : "stopped after ") +
            (i % 3 == 0 ? "" : std::to_string(i * i)) + "\n";
  }
  EXPECT_THAT(
      TemplatesOf(Check(text)),
      testing::UnorderedElementsAre("<1> host app[<2>]: stopped after <3>\n",
                                    "<1> host app[<2>]: started\n"));
}

TEST(LogTest, WordsThatVaryAreValues) {
  std::string text;
  for (int i = 0; i < 600; ++i) {
    static constexpr std::string_view kNames[] = {"anna", "bert", "carl",
                                                  "dora", "emil"};
    text += "login of " + std::string(kNames[i % 5]) + " from 10.0.0." +
            std::to_string(i % 200) + "\n";
  }
  EXPECT_THAT(TemplatesOf(Check(text)), ElementsAre("login of <1> from <2>\n"));
}

TEST(LogTest, WhatIsRareEndsInText) {
  Random random(5);
  std::string text;
  for (int i = 0; i < 500; ++i) {
    text += "10:00:" + std::to_string(10 + i % 50) + " step " +
            std::to_string(i) + "\n";
    if (i % 50 != 0) continue;
    text += "10:00:" + std::to_string(10 + i % 50) + " step";
    for (size_t k = random.Below(20); k < 40; ++k) {
      text += random.Below(2) == 0 ? " x" : ",";
      text += static_cast<char>('a' + random.Below(26));
    }
    text += "\n";
  }
  const std::vector<std::string> templates = TemplatesOf(Check(text));
  EXPECT_LE(templates.size(), 3u);
  EXPECT_EQ(templates[0], "<1> step <2>\n");
}

TEST(LogTest, RoundTripsFormsOfRecords) {
  const std::string forms[] = {
      Lines({"a,\"b, c\",#,#\n", "x,\"\",#,#\n"}, 200),
      Lines({"#\t#\tname\t\t#\n"}, 200),
      Lines({"{\"id\":#,\"tags\":[#,#],\"s\":\"a \\\" # b\"}\n"}, 200),
      "[" + Lines({"{\"id\":#,\"name\":\"n#\"},"}, 1000) + "{}]",
      Lines({"\x1b[32m# INFO\x1b[0m done #\r\n"}, 200),
      Lines({"key=# other=\"# #\" path=/a/#/b\n", "\n", "\n"}, 200),
      Lines({std::string_view("nul \0 and \1 and \2 #\n", 21)}, 200),
      Lines({"no end # of the last line #\n"}, 200) + "tail 12",
      Lines({"padded to a width   #  10\n", "padded to a width  #   #\n"}, 200),
      std::string(30000, 'x') + "\n" + Lines({"after # long\n"}, 200),
      Lines({"Exception #\n\tat a.b.C(D.java:#)\n\tat e.f(G.java:#)\n"}, 200),
      Lines({"[22/Nov/2026:10:00:1# +0100] \"GET /# HTTP/1.1\" 200 #\n"}, 200),
  };
  for (const std::string& form : forms) {
    SCOPED_TRACE(form.substr(0, 60));
    Check(form);
    for (size_t cut = 1; cut < 40; cut += 13) {
      CheckRoundTrip(kLog, RequestFor(std::string_view(form).substr(cut)));
    }
  }
  Check(forms[0], 6);
  Check(forms[2], 9);
}

TEST(LogTest, SmallerThanTextOnLogsAndSilentElsewhere) {
  const Bytes lines = MakeInput(Kind::kLines, DType::kBytes, 100000);
  Scratch scratch;
  const std::string_view log(reinterpret_cast<const char*>(lines.data()),
                             lines.size());
  const auto plan = FindEncoder(kLog)->plan(RequestFor(log), scratch);
  const auto bwt = FindEncoder(21)->plan(RequestFor(log), scratch);
  ASSERT_TRUE(plan != nullptr && bwt != nullptr);
  EXPECT_LT(plan->estimate(), bwt->estimate());
  for (const Kind kind : {Kind::kRandom, Kind::kText}) {
    const Bytes other = MakeInput(kind, DType::kBytes, 100000);
    const std::string_view text(reinterpret_cast<const char*>(other.data()),
                                other.size());
    EXPECT_EQ(FindEncoder(kLog)->plan(RequestFor(text), scratch), nullptr);
  }
  EXPECT_EQ(FindEncoder(kLog)->plan(RequestFor(log, 2), scratch), nullptr);
}

TEST(LogTest, EveryLineAnotherTemplate) {
  Random random(7);
  std::string text;
  while (text.size() < 400000) {
    for (size_t words = 1 + random.Below(12); words > 0; --words) {
      for (size_t n = 1 + random.Below(9); n > 0; --n) {
        text += static_cast<char>('a' + random.Below(26));
      }
      text += ",;: ="[random.Below(5)];
    }
    text += "\n";
  }
  CheckRoundTrip(kLog, RequestFor(text));
}

TEST(LogTest, PlacesAndWhatIsBeside) {
  // Two templates: <1> <2>, and <2> alone.
  Buffer block;
  ByteWriter writer(&block);
  Scratch scratch;
  Values texts, slots, numbers;
  const auto append = [](std::initializer_list<uint8_t> bytes, Values* values) {
    values->Append({bytes.begin(), bytes.size()});
  };
  append({0, ' ', 0}, &texts);
  append({'x', 0, 1, 0}, &texts);  // an escaped NUL at the end
  append({0, 0}, &slots);
  append({2}, &slots);
  writer.Varint(2);
  columns::EncodeColumn(texts, {}, 3, scratch, &block);
  columns::EncodeColumn(slots, {}, 3, scratch, &block);
  ByteReader reader(block.span());
  log::Templates templates;
  ASSERT_TRUE(templates.Read(reader, 100, {}, scratch).ok());
  EXPECT_EQ(templates.size(), 2u);
  EXPECT_EQ(templates.columns(), 3u);
  EXPECT_THAT(templates.Literal(templates[1].back()), ElementsAre(0));
  for (const uint8_t number : Bytes{1, 0, 1, 0}) append({number}, &numbers);
  const auto places = log::FindPlaces(templates, numbers);
  EXPECT_THAT(places[0], ElementsAre(0, 2, 5, 7));
  EXPECT_THAT(places[1], ElementsAre(3, 8));
  EXPECT_THAT(places[2], ElementsAre(1, 4, 6, 9));
  EXPECT_THAT(log::FindBeside(places[2], places[1]), ElementsAre(0, 0, 0, 1));
  EXPECT_THAT(log::FindBeside(places[1], places[0]), ElementsAre(1, 3));
}

/// A block put together by hand.
class Block {
 public:
  explicit Block(uint64_t templates) { Number(templates); }
  Block& Number(uint64_t number) {
    Buffer coded;
    ByteWriter(&coded).Varint(number);
    return Append(coded);
  }
  Block& Column(std::initializer_list<std::string_view> values) {
    Values column;
    for (const std::string_view value : values) column.Append(AsBytes(value));
    Scratch scratch;
    Buffer coded;
    columns::EncodeColumn(column, {}, 3, scratch, &coded);
    return Append(coded);
  }
  /// "" where it decodes.
  std::string Decode(size_t size) const {
    absl::Status why;
    const auto out = DecodeBlock(*FindDecoder(kLog), {}, bytes_, size, &why);
    return out.has_value() ? "" : std::string(why.message());
  }

 private:
  Block& Append(const Buffer& coded) {
    bytes_.insert(bytes_.end(), coded.span().begin(), coded.span().end());
    return *this;
  }

  Bytes bytes_;
};

TEST(LogTest, RefusesWhatIsNoBlock) {
  using namespace std::string_view_literals;
  const auto block = [](std::string_view text, std::string_view slots) {
    return Block(1).Column({text}).Column({slots});
  };
  EXPECT_EQ(block("a\0\n"sv, "\0"sv)
                .Number(2)
                .Column({"\0"sv, "\0"sv})
                .Number(0)
                .Column({"x", "y"})
                .Decode(6),
            "");
  const auto one = [&] {
    return block("a\0\n"sv, "\0"sv).Number(2).Column({"\0"sv, "\0"sv});
  };
  EXPECT_THAT(one().Number(0).Column({"x", "y"}).Decode(7),
              HasSubstr("does not have 7 bytes"));
  EXPECT_THAT(one().Number(0).Column({"x", "y"}).Number(0).Decode(6),
              HasSubstr("log block"));
  EXPECT_THAT(one().Number(0).Column({"x", "yyyyyyyy"}).Decode(6),
              testing::Not(testing::IsEmpty()));
  EXPECT_THAT(one().Decode((size_t{1} << 24) + 1), HasSubstr("of at most"));
  EXPECT_THAT(one().Number(9).Column({"x", "y"}).Decode(6),
              testing::Not(testing::IsEmpty()));
  EXPECT_THAT(one().Number(1).Number(1).Column({"x", "y"}).Decode(6),
              testing::Not(testing::IsEmpty()));
  EXPECT_THAT(block("a\0\n"sv, ""sv).Number(1).Decode(6),
              HasSubstr("slots of a template"));
  EXPECT_THAT(block("a\0\n"sv, "\0\0"sv).Number(1).Decode(6),
              HasSubstr("slots of a template"));
  EXPECT_THAT(block("a\0\n"sv, "\1"sv).Number(1).Decode(6),
              HasSubstr("slots of a template"));
  EXPECT_THAT(block("a\1"sv, ""sv).Number(1).Decode(6), HasSubstr("escape"));
  EXPECT_THAT(
      block("abcdef"sv, ""sv).Number(2).Column({"\1"sv, "\0"sv}).Decode(12),
      HasSubstr("record 0 has no template"));
  EXPECT_THAT(block("\0\0\0\0\0\0\0\0"sv, "\0\0\0\0\0\0\0\0"sv)
                  .Number(2)
                  .Column({"\0"sv, "\0"sv})
                  .Decode(9),
              HasSubstr("too many values"));
  EXPECT_THAT(Block(0).Column({}).Column({}).Number(0).Column({}).Decode(1),
              HasSubstr("does not have 1 bytes"));
  // A column beside that has no values.
  EXPECT_THAT(Block(2)
                  .Column({"\0a"sv, "\0b"sv})
                  .Column({"\0"sv, "\0"sv})
                  .Number(1)
                  .Column({"\1"sv})
                  .Number(0)
                  .Column({})
                  .Number(1)
                  .Number(1)
                  .Column({"x"})
                  .Decode(2),
              HasSubstr("0 values beside 1"));
}

/// Lines of forty events, each of which has words of its own, and odd bytes.
std::string Events(int day, uint64_t seed) {
  Random words(1);
  std::vector<std::string> events;
  for (int i = 0; i < 40; ++i) {
    std::string& event = events.emplace_back();
    for (int k = 0; k < 8; ++k) {
      event += ' ';
      for (int c = 0; c < 6; ++c) {
        event += static_cast<char>('a' + words.Below(26));
      }
    }
  }
  Random random(seed);
  std::string text;
  for (int i = 0; i < 1200; ++i) {
    text += StrCat("2026-11-", day, " ", 1000 + i, events[random.Below(40)],
                   " \1\2\3 ", random.Below(100000), "\n");
  }
  return text;
}

TEST(LogTest, BlocksShareTextsOfTemplates) {
  const std::string first = Events(17, 1);
  const std::string second = Events(18, 2);
  Scratch scratch;
  const Encoder& encoder = *FindEncoder(kLog);
  const Decoder& decoder = *FindDecoder(kLog);
  const auto model = encoder.learn_text(RequestFor(first), scratch);
  ASSERT_NE(model, nullptr);
  BlockContext context;
  context.shared = model->shared();
  for (const std::string& text : {first, second}) {
    for (const int level : {3, 6}) {
      EncodeRequest request = RequestFor(text, level);
      request.model = model.get();
      const auto plan = encoder.plan(request, scratch);
      Buffer coded;
      ASSERT_TRUE(plan != nullptr &&
                  plan->Encode(AsBytes(text), scratch, &coded));
      EXPECT_LT(coded.size() + 100, Code(text, level).size());
      const auto back =
          DecodeBlock(decoder, {}, context, coded.span(), text.size());
      EXPECT_TRUE(back.has_value() && std::ranges::equal(*back, AsBytes(text)));
      EXPECT_FALSE(
          DecodeBlock(decoder, {}, coded.span(), text.size()).has_value());
      BlockContext cut;
      cut.shared = context.shared.first(context.shared.size() / 2);
      EXPECT_FALSE(
          DecodeBlock(decoder, {}, cut, coded.span(), text.size()).has_value());
    }
  }
}

TEST(LogTest, DamageIsNoHarm) {
  const Bytes lines = MakeInput(Kind::kLines, DType::kBytes, 4000);
  const Bytes coded =
      Code({reinterpret_cast<const char*>(lines.data()), lines.size()});
  Random random(9);
  for (int i = 0; i < 300; ++i) {
    Bytes changed = coded;
    changed[random.Below(changed.size())] ^=
        static_cast<uint8_t>(1u << random.Below(8));
    DecodeBlock(*FindDecoder(kLog), {}, changed, lines.size());
    changed.resize(random.Below(changed.size()));
    DecodeBlock(*FindDecoder(kLog), {}, changed, 1 + random.Below(5000));
  }
}

}  // namespace
}  // namespace zipllm::codecs
