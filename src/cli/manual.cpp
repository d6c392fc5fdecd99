#include "src/cli/manual.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace gpt2train {
namespace {

constexpr std::string_view kChoices = "one of ";  // how the type of a setting with a list begins

std::vector<const CLI::App*> commands_of(const CLI::App& program) {
  return program.get_subcommands([](const CLI::App*) { return true; });
}

// Settings are in groups of their own, one a section of the YAML file.
bool is_setting(const CLI::Option& option) {
  return option.get_group() != "Options";
}

std::vector<const CLI::Option*> options_of(const CLI::App& app, bool settings) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* option : app.get_options()) {
    if (is_setting(*option) == settings && !option->get_lnames().empty()) options.push_back(option);
  }
  return options;
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// "a", "b" of "one of a|b", or none.
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  std::vector<std::string> choices;
  if (!type.starts_with(kChoices)) return choices;
  for (std::size_t at = kChoices.size(); at < type.size();) {
    const std::size_t end = std::min(type.find('|', at), type.size());
    choices.push_back(type.substr(at, end - at));
    at = end + 1;
  }
  return choices;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string flags_of(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const bool settings : {false, true}) {
    for (const CLI::Option* option : options_of(app, settings)) {
      for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    }
  }
  return joined(flags);
}

// ---- the manual page ----------------------------------------------------------------------------

// Text that roff sets as it stands.
std::string roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else if ((c == '.' || c == '\'') && (escaped.empty() || escaped.back() == '\n')) {
      escaped += std::string("\\&") + c;  // at the beginning of a line it would be a request
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string entry(const CLI::Option& option) {
  std::string names;
  for (const std::string& name : option.get_snames()) names += roff("-" + name) + ", ";
  for (const std::string& name : option.get_lnames()) names += roff("--" + name) + ", ";
  names.resize(names.size() - 2);
  std::string text = fmt::format(".TP\n.B {}\n{}", names, roff(option.get_description()));
  if (is_setting(option)) {
    text += roff(fmt::format(" ({}; default: {})", option.get_type_name(),
                             option.get_default_str().empty() ? "\"\"" : option.get_default_str()));
  }
  return text + '\n';
}

std::string command_entries(const CLI::App& program) {
  std::string text;
  for (const CLI::App* command : commands_of(program)) {
    text += fmt::format(".SS gpt2train {}\n{}\n", command->get_name(),
                        roff(command->get_description()));
    for (const CLI::Option* option : options_of(*command, false)) {
      if (option->get_lnames().front() != "help") text += entry(*option);
    }
  }
  return text;
}

std::string setting_entries(const CLI::App& program) {
  std::string text, section;
  for (const CLI::Option* option : options_of(program, true)) {
    if (option->get_group() != section) {
      section = option->get_group();
      text += fmt::format(".SS {}\n", roff(section));
    }
    text += entry(*option);
  }
  return text;
}

constexpr std::string_view kAfterSettings = R"roff(.SH EXIT STATUS
.TP
.B 0
done, or interrupted (Ctrl\-C, SIGTERM) and saved
.TP
.B 1
an error in the program itself, or a check that failed
.TP
.B 2
a setting or an option is wrong
.TP
.B 3
data or a checkpoint is missing or damaged
.TP
.B 4
memory does not suffice, whatever the micro\-batch
.TP
.B 5
the device is not there or failed
.PP
Errors are one line on standard error. With \-\-json, standard output has JSON alone; its keys stay (json.md, beside the README).
.SH FILES
.TP
.I out_dir/metrics.jsonl
one JSON object a line for each start, plan, step, evaluation, lowering and checkpoint
.TP
.I out_dir/metrics.csv
one row a step
.TP
.I out_dir/config.yaml
all settings of the newest start
.TP
.I out_dir/run.html
the run as a page: curves, memory, what happened, settings
.TP
.I out_dir/step\-NNNNNNNN
checkpoints
.TP
.I out_dir/bench.jsonl
points that bench has measured
.TP
.I ~/.config/gpt2train/devices.yaml
cards of your own, for memory.device
.TP
.I ~/.cache/gpt2train
what was chosen by timing on this machine
.SH ENVIRONMENT
.TP
.B GPT2TRAIN_DEVICES
a file of cards instead of ~/.config/gpt2train/devices.yaml
.TP
.B GPT2TRAIN_CACHE_DIR
a directory instead of ~/.cache/gpt2train
.TP
.B NO_COLOR
where it is set, nothing is drawn over: plain lines, as where the output is no terminal. There are no colours in any case
.TP
.B OMP_NUM_THREADS
threads of a CPU that are used
)roff";

// ---- completions --------------------------------------------------------------------------------

// Each option with a list of values, once: the same for every command.
std::vector<const CLI::Option*> options_with_choices(const CLI::App& program) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* option : options_of(program, true)) {
    if (!choices_of(*option).empty()) options.push_back(option);
  }
  return options;
}

std::string bash_completions(const CLI::App& program) {
  std::vector<std::string> names;
  std::string flags, values;
  for (const CLI::App* command : commands_of(program)) {
    names.push_back(command->get_name());
    flags += fmt::format("    {}) flags='{}' ;;\n", command->get_name(), flags_of(*command));
  }
  for (const CLI::Option* option : options_with_choices(program)) {
    std::string patterns;
    for (const std::string& name : option->get_lnames()) {
      patterns += (patterns.empty() ? "--" : "|--") + name;
    }
    values += fmt::format("    {}) values='{}' ;;\n", patterns, joined(choices_of(*option)));
  }
  return fmt::format(R"bash(# Completions of gpt2train, written by `gpt2train completion`.
_gpt2train() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}}
  local commands='{0}' command= flags= values= i
  for ((i = 1; i < COMP_CWORD; ++i)); do
    [[ " $commands " == *" ${{COMP_WORDS[i]}} "* ]] && command=${{COMP_WORDS[i]}} && break
  done
  # bash takes the = of --name=value for a word of its own.
  if [[ $word == '=' ]]; then
    word=
  elif [[ $before == '=' ]]; then
    before=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  case $before in
{2}  esac
  case $command in
{1}    *) flags='{3}' ;;
  esac
  if [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$word"))
  elif [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
  elif [[ -z $command && $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W "$commands" -- "$word"))
  fi
}}
complete -o default -F _gpt2train gpt2train
)bash",
                     joined(names), flags, values, flags_of(program));
}

std::string fish_quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '\'';
}

std::string fish_options(const CLI::App& app, std::string_view condition) {
  std::string text;
  for (const bool settings : {false, true}) {
    for (const CLI::Option* option : options_of(app, settings)) {
      text += fmt::format("complete -c gpt2train -n '{}'", condition);
      for (const std::string& name : option->get_snames()) text += " -s " + name;
      for (const std::string& name : option->get_lnames()) text += " -l " + name;
      const std::vector<std::string> choices = choices_of(*option);
      if (!choices.empty()) {
        text += fmt::format(" -xa {}", fish_quoted(joined(choices)));
      } else if (takes_value(*option)) {
        text += " -r";
      }
      text += fmt::format(" -d {}\n", fish_quoted(option->get_description()));
    }
  }
  return text;
}

std::string fish_completions(const CLI::App& program) {
  std::string text = "# Completions of gpt2train, written by `gpt2train completion`.\n";
  for (const CLI::App* command : commands_of(program)) {
    text += fmt::format("complete -c gpt2train -n __fish_use_subcommand -a {} -d {}\n",
                        command->get_name(), fish_quoted(command->get_description()));
    text +=
        fish_options(*command, fmt::format("__fish_seen_subcommand_from {}", command->get_name()));
  }
  return text + fish_options(program, "__fish_use_subcommand");
}

}  // namespace

std::string manual_page(const CLI::App& program, const std::string& version) {
  std::string text = fmt::format(
      ".TH GPT2TRAIN 1 \"\" \"gpt2train {}\" \"User Commands\"\n"
      ".SH NAME\ngpt2train \\- train GPT\\-2 inside a memory budget\n"
      ".SH SYNOPSIS\n.B gpt2train\n[\\fIcommand\\fR] \\fB\\-\\-config\\fR \\fIFILE\\fR "
      "[\\fB\\-\\-\\fIsetting\\fB=\\fIvalue\\fR ...]\n"
      ".SH DESCRIPTION\n{}\n",
      roff(version), roff(program.get_description()));
  text += ".SH COMMANDS\n" + command_entries(program);
  text += ".SH SETTINGS\nIn a YAML file by section, or on the command line.\n" +
          setting_entries(program);
  return text + std::string(kAfterSettings);
}

std::string completions(const CLI::App& program, Shell shell) {
  switch (shell) {
    case Shell::kBash:
      break;
    case Shell::kZsh:
      return "#compdef gpt2train\nautoload -U +X bashcompinit && bashcompinit\n" +
             bash_completions(program);
    case Shell::kFish:
      return fish_completions(program);
  }
  return bash_completions(program);
}

}  // namespace gpt2train
