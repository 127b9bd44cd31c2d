#!/usr/bin/env perl
# Writes what a fuzzer begins with: the inputs that the tests have, in the form that
# the fuzzer reads. A fuzzer that is not named here makes up its own.
#   tests/fuzz/seeds.pl <fuzzer> <directory>
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use JSON::PP;

die "usage: tests/fuzz/seeds.pl <fuzzer> <directory>\n" unless @ARGV == 2;
my ($fuzzer, $directory) = @ARGV;
my $tests = dirname(__FILE__) . '/..';

sub read_file {
  my ($path) = @_;
  open(my $file, '<:raw', $path) or die "$path: $!\n";
  local $/;
  return scalar <$file>;
}

sub vectors {
  my ($name) = @_;
  return @{JSON::PP->new->utf8->decode(read_file("$tests/openai/vectors/$name.json"))};
}

sub utf8 {
  my ($text) = @_;
  utf8::encode($text);
  return $text;
}

# The literals of a test, those that follow each other as one.
sub literals {
  my ($path) = @_;
  my $text = read_file("$tests/$path");
  my %escapes = (n => "\n", r => "\r", t => "\t", 0 => "\0");
  my @found;
  while ($text =~ /((?:R"\(.*?\)"\s*|"(?:[^"\\\n]|\\.)*"\s*)+)/gs) {
    my $literal = '';
    for my $part ($1 =~ /(R"\(.*?\)"|"(?:[^"\\\n]|\\.)*")/gs) {
      if ($part =~ /^R"\((.*)\)"$/s) {
        $literal .= $1;
        next;
      }
      $part = substr($part, 1, -1);
      $part =~ s/\\(x([0-9a-fA-F]+)|.)/defined $2 ? chr(hex($2) & 255) : $escapes{$1} \/\/ $1/ges;
      $literal .= $part;
    }
    push @found, $literal;
  }
  return @found;
}

sub yaml {
  my ($readme) = read_file("$tests/../README.md") =~ /^```yaml\n(providers:.*?)^```/ms;
  return (read_file("$tests/../examples/providers.yaml"), $readme);
}

sub answers {
  my ($statuses) = read_file("$tests/fuzz/classify_fuzz.cc") =~ /kStatuses = \{(.*?)\}/s;
  my %number;
  $number{$_} //= keys %number for $statuses =~ /\d+/g;
  my @found;
  for my $vector (vectors('responses'), vectors('providers')) {
    my $number = $number{$vector->{status}} // $number{500};
    my $head = join '', map { "$_:$vector->{headers}{$_}\n" } sort keys %{$vector->{headers}};
    push @found, chr($number) . utf8("$head\n$vector->{body}"),
      chr($number) . utf8("event:error\n\n$vector->{body}");
  }
  return @found;
}

# A code point of a chunk is a byte; a quarter of an input says where it is cut.
sub streams {
  return map { my $text = join '', @{$_->{chunks}}; $text . "\5" x (length($text) / 3) }
    vectors('sse');
}

my %seeds = (
  classify_fuzz => \&answers,
  config_fuzz => sub { literals('config/keys_from_test.cc') },
  hint_fuzz => sub { map { literals("openai/${_}_test.cc") } qw(duration reset_text retry_after) },
  request_fuzz => sub { grep { /^[A-Z]+ .*HTTP/ } literals('gateway/hostile_test.cc') },
  sse_fuzz => \&streams,
  url_fuzz => sub { grep { /:/ } literals('http/url_test.cc') },
  yaml_fuzz => \&yaml,
);

make_path($directory);
exit unless $seeds{$fuzzer};
my @inputs = $seeds{$fuzzer}->();
die "tests/fuzz/seeds.pl: the tests have no inputs for $fuzzer\n" unless @inputs;
for my $input (@inputs) {
  open(my $file, '>:raw', "$directory/" . md5_hex($input)) or die "$directory: $!\n";
  print $file $input;
  close $file or die "$directory: $!\n";
}
