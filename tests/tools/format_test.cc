#include "tools/format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/json.h"

namespace zipllm::tools {
namespace {

TEST(FormatTest, NamesCannotDriveTheTerminal) {
  EXPECT_EQ(Printable("model.safetensors"), "model.safetensors");
  EXPECT_EQ(Printable("a b\n\t\r\\"), "a b\\n\\t\\r\\\\");
  EXPECT_EQ(Printable("\x1b[31m\x7f"), "\\x1b[31m\\x7f");
  EXPECT_EQ(Printable("\u00fc\u4e2d\U0001f600"), "\u00fc\u4e2d\U0001f600");
  EXPECT_EQ(Printable("\u0085\u009b"), "\\xc2\\x85\\xc2\\x9b");  // C1 controls
  EXPECT_EQ(Printable("latin1 \xe9"), "latin1 \\xe9");
  EXPECT_EQ(Printable("\xe2\x82"), "\\xe2\\x82");           // cut off
  EXPECT_EQ(Printable("\xc0\xaf"), "\\xc0\\xaf");           // overlong
  EXPECT_EQ(Printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(Printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(Printable(std::string(1, '\0')), "\\x00");
}

TEST(FormatTest, TextForTerminals) {
  EXPECT_TRUE(IsTerminalText(""));
  EXPECT_TRUE(IsTerminalText("{\"a\": 1}\r\n\t\u00fc"));
  EXPECT_TRUE(IsTerminalText("cut off \xe4\xb8"));
  EXPECT_FALSE(IsTerminalText("\x1b[2J"));
  EXPECT_FALSE(IsTerminalText("latin1 \xe9 "));
  EXPECT_FALSE(IsTerminalText(std::string("a\0b", 3)));
  EXPECT_FALSE(IsTerminalText("\u009b"));
}

TEST(FormatTest, SizesHaveThreeDigits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.00 kB");
  EXPECT_EQ(HumanBytes(9994), "9.99 kB");
  EXPECT_EQ(HumanBytes(9995), "10.0 kB");
  EXPECT_EQ(HumanBytes(45'400'000), "45.4 MB");
  EXPECT_EQ(HumanBytes(999'499), "999 kB");
  EXPECT_EQ(HumanBytes(999'500), "1.00 MB");
  EXPECT_EQ(HumanBytes(UINT64_MAX), "18.4 EB");
  EXPECT_EQ(HumanCount(384), "384");
  EXPECT_EQ(HumanCount(22'700'000), "22.7 M");
  EXPECT_EQ(HumanRate(1'000'000, 0.5), "2.00 MB/s");
  EXPECT_EQ(HumanRate(1'000'000, 0), "-");
  EXPECT_EQ(Percent(1, 3), "33.33 %");
  EXPECT_EQ(Percent(1, 0), "-");
  EXPECT_EQ(BitsEach(21, 16), "10.50");
  EXPECT_EQ(BitsEach(21, 0), "-");
}

TEST(FormatTest, TimesAndShapes) {
  EXPECT_EQ(HumanDuration(0), "0:00");
  EXPECT_EQ(HumanDuration(59.6), "1:00");
  EXPECT_EQ(HumanDuration(3723), "1:02:03");
  EXPECT_EQ(HumanDuration(-1), "0:00");
  EXPECT_EQ(HumanDuration(1e300), "1000000:00:00");
  EXPECT_EQ(HumanTime(INT64_MAX), "-");  // a year that no calendar holds
  EXPECT_EQ(ShapeText({}), "scalar");
  EXPECT_EQ(ShapeText({30522, 384}), "30522x384");
}

TEST(FormatTest, Bars) {
  EXPECT_EQ(Bar(1, 2, 4, false), "##..");
  EXPECT_EQ(Bar(1, 2, 4, true), "\u2588\u2588\u2591\u2591");
  EXPECT_EQ(Bar(1, 1'000'000, 4, false), "#...");  // some is not nothing
  EXPECT_EQ(Bar(0, 5, 4, false), "....");
  EXPECT_EQ(Bar(9, 5, 4, false), "####");  // a coded size may exceed the plain
  EXPECT_EQ(Bar(1, 0, 4, false), "#...");
}

TEST(FormatTest, ShortensInTheMiddle) {
  EXPECT_EQ(Shorten("abcdefghij", 10), "abcdefghij");
  EXPECT_EQ(Shorten("abcdefghijk", 10), "abc...hijk");
  EXPECT_EQ(Shorten("\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4", 5),
            "\u00e4...\u00e4");
  EXPECT_EQ(Shorten("abcdef", 3), "");
}

TEST(FormatTest, WrapsAtSpaces) {
  EXPECT_EQ(Wrap("one two three", 7, 0), "one two\nthree");
  EXPECT_EQ(Wrap("one two three", 9, 2), "one two\n  three");
  EXPECT_EQ(Wrap("unbreakable", 4, 0), "unbreakable");
  EXPECT_EQ(Wrap("a\n  b c", 80, 0), "a\n  b c");
  EXPECT_EQ(Wrap("", 80, 0), "");
}

TEST(FormatTest, TablesAlign) {
  Table table("lr");
  table.Add({"a", "1"});
  table.Add({"\u00fcber", "100"});
  EXPECT_EQ(table.Text(), "a       1\n\u00fcber  100\n");
}

TEST(JsonTest, TextIsAlwaysUtf8) {
  Json object;
  SetText(&object, "good", "\u00fc");
  SetText(&object, "bad", "a\xe9z");
  Json again = Json::parse(Dump(object));
  EXPECT_EQ(again["good"], "\u00fc");
  EXPECT_FALSE(again.contains("good_hex"));
  EXPECT_EQ(again["bad"], "a\ufffdz");
  EXPECT_EQ(again["bad_hex"], "61e97a");
  EXPECT_TRUE(Ratio(1, 0).is_null());
  EXPECT_EQ(Ratio(1, 2), 0.5);
}

}  // namespace
}  // namespace zipllm::tools
