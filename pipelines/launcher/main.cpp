// SPDX-License-Identifier: LGPL-2.1-or-later
// mri-launch: lists, describes, checks and runs the pipelines of pipelines/*.yaml.
#include "pipelines/info/file_info.hpp"
#include "pipelines/launcher/outputs.hpp"
#include "pipelines/launcher/pipeline_file.hpp"
#include "pipelines/launcher/runner.hpp"
#include "pipelines/launcher/table.hpp"
#include "plugins/math/base/installation.hpp"
#if MRI_HAVE_ISMRMRD
#include "plugins/source/ismrmrd/writer.hpp"
#endif

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>

namespace {

using namespace mri;

int exit_code(ExitCode code) {
    return static_cast<int>(code);
}

void on_interrupt(int) {
    interrupts = interrupts + 1;
}

void catch_interrupts() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
}

/// Has GStreamer look for plugins in this installation too, behind the folders of GST_PLUGIN_PATH: its registry then
/// holds them wherever the installation lies.
void add_installed_plugins() {
    if (!installation::own_prefix())
        return;
    const char* const variable = g_getenv("GST_PLUGIN_PATH_1_0") ? "GST_PLUGIN_PATH_1_0" : "GST_PLUGIN_PATH";
    const char* const given = g_getenv(variable);
    std::string folders = given && *given ? std::string(given) + ":" : "";
    folders += installation::plugins().string();
    g_setenv(variable, folders.c_str(), TRUE);
}

std::map<std::string, std::string> settings_map(const std::vector<std::string>& settings) {
    std::map<std::string, std::string> values;
    for (const auto& setting : settings) {
        const auto equals = setting.find('=');
        if (equals == 0 || equals == std::string::npos)
            throw Error(Errc::settings, "-s " + setting + ": this is not name=value");
        const std::string name = setting.substr(0, equals);
        if (!values.emplace(name, setting.substr(equals + 1)).second)
            throw Error(Errc::settings, "-s " + name + " is given twice");
    }
    return values;
}

int list() {
    std::vector<std::vector<std::string>> rows;
    ExitCode code = ExitCode::ok;
    for (const auto& [name, path] : list_pipelines()) {
        try {
            rows.push_back({name, PipelineFile::load(path).description});
        } catch (const Error& error) {
            std::fprintf(stderr, "mri-launch: %s\n", error.what());
            code = ExitCode::invalid;
        }
    }
    std::fputs(format_table({"pipeline", "what it does"}, rows, 2).c_str(), stdout);
    return exit_code(code);
}

int describe(const PipelineFile& file) {
    std::printf("%s: %s\n%s\n", file.name.c_str(), file.description.c_str(), file.path.c_str());
    std::vector<std::vector<std::string>> rows;
    for (const auto& p : file.parameters) {
        std::string type = to_string(p.type);
        std::string help = p.help;
        if (p.type == ParameterType::choice) {
            type.clear();
            for (const auto& choice : p.choices)
                type += (type.empty() ? "" : "|") + choice.first;
        }
        if (const Parameter* format = file.find(p.format))
            for (const auto& [choice, ending] : format->suffixes)
                type += (ending == format->suffixes.front().second ? " " : "|") + ending;
        const auto number = [](double value) {
            char text[32];
            std::snprintf(text, sizeof text, "%g", value);
            return std::string(text);
        };
        if (p.low || p.high)
            type += " " + (p.low ? number(*p.low) : "") + ".." + (p.high ? number(*p.high) : "");
        rows.push_back({p.name, type, !p.preset ? "(required)" : p.preset->empty() ? "''" : *p.preset, help});
    }
    if (!rows.empty())
        std::printf("\n%s", format_table({"parameter", "type", "default", "meaning"}, rows, 4).c_str());
    std::printf("\n%s%s", file.text.c_str(), file.text.ends_with('\n') ? "" : "\n");
    return exit_code(ExitCode::ok);
}

int validate(const PipelineFile& file, const std::vector<std::string>& settings) {
    parse_pipeline(file.expand_sample(settings_map(settings)));
    std::printf("%s: valid\n", file.path.c_str());
    return exit_code(ExitCode::ok);
}

#if MRI_HAVE_ISMRMRD
int recover(const std::string& path) {
    const auto file = recover_recording(path);
    if (!file)
        throw Error(Errc::not_found, "There is no recording of '" + path + "' that was cut off");
    if (file->path.empty())
        std::printf("The recording of %s held nothing\n", path.c_str());
    else
        std::printf("%s: %zu readouts and %zu images\n", file->path.c_str(), file->readouts, file->images);
    return exit_code(ExitCode::ok);
}
#endif

int info(const std::string& path, const std::string& group) {
    const FileInfo found = file_info(path, group);
    std::fputs(format_info(found).c_str(), stdout);
    std::fflush(stdout);
    if (found.error)
        throw *found.error;
    return exit_code(ExitCode::ok);
}

constexpr const char* footer =
    "A NAME is that of a file NAME.yaml in the folders of GST_MRI_PIPELINES_PATH or the installed one; "
    "a path to a file works too.\n"
    "\nExit codes: 0 success; 1 an element reported an error, or info cannot read a file; 2 usage, an "
    "unknown pipeline, parameter or file, a bad value; 3 the pipeline file is wrong or an element is "
    "missing; 4 --timeout ended the run; "
    "130 Ctrl-C ended the run.";

} // namespace

int main(int argc, char** argv) {
    CLI::App app{"Runs declarative MRI pipelines.", "mri-launch"};
    app.set_version_flag("--version", GST_MRI_VERSION);
    app.require_subcommand(1);
    app.footer(footer);

    std::string name;
    std::vector<std::string> settings;
    RunOptions options;
    double timeout = 0;

    const auto add = [&](const char* command, const char* help) {
        CLI::App* sub = app.add_subcommand(command, help);
        sub->footer(footer);
        return sub;
    };
    const auto add_settings = [&](CLI::App* sub) {
        sub->add_option("-s,--set", settings, "name=value: sets a parameter")
            ->take_all()
            ->allow_extra_args(false);
    };
    CLI::App* list_command = add("list", "Lists the pipelines");
    CLI::App* describe_command = add("describe", "Shows a pipeline's parameters and text");
    describe_command->add_option("NAME", name, "pipeline, or path to its file")->required();
    CLI::App* validate_command = add(
        "validate", "Checks a pipeline: it parses, its elements exist, its parameters are declared and used");
    validate_command->add_option("NAME", name, "pipeline, or path to its file")->required();
    add_settings(validate_command);
#if MRI_HAVE_ISMRMRD
    CLI::App* recover_command =
        add("recover", "Makes an ISMRMRD file of the recording that a killed ismrmrdsink left beside it");
    recover_command->add_option("FILE", name, "the file that was being written, or its FILE.recording")
        ->required();
#endif
    CLI::App* run_command = add("run", "Runs a pipeline to its end; Ctrl-C finishes files and ends");
    run_command->add_option("NAME", name, "pipeline, or path to its file")->required();
    add_settings(run_command);
    run_command->add_flag("-q,--quiet", options.quiet, "print errors and warnings only");
    run_command->add_flag("-v,--verbose", options.verbose,
                          "print the details of errors and the pipeline's text");
    run_command->add_flag("--stats", options.stats,
                          "at the end, time per element and frame, and frames late or dropped");
    CLI::Option* timeout_option =
        run_command
            ->add_option("--timeout", timeout, "end the run after so many seconds, with files finished")
            ->check(CLI::PositiveNumber);

    CLI::App* info_command =
        add("info",
            "Says what a file or folder holds, how it will be read, and the command that reconstructs it");
    std::string path;
    std::string group;
    info_command->add_option("PATH", path, "ISMRMRD file, folder with DICOM, or weights of a network")
        ->required();
    info_command->add_option(
        "--group", group, "group of an ISMRMRD file; 'dataset', or the first with data, where none is given");
    info_command->add_flag("-v,--verbose", options.verbose, "print the details of errors");

    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : exit_code(ExitCode::usage);
    }
    if (*timeout_option)
        options.timeout_s = timeout;

    add_installed_plugins();
    gst_init(nullptr, nullptr);
    ExitCode fallback = ExitCode::invalid;
    try {
        if (*list_command)
            return list();
#if MRI_HAVE_ISMRMRD
        if (*recover_command)
            return recover(name);
#endif
        if (*info_command) {
            fallback = ExitCode::pipeline_error;
            return info(path, group);
        }
        const PipelineFile file = PipelineFile::load(find_pipeline(name));
        if (*describe_command)
            return describe(file);
        if (*validate_command)
            return validate(file, settings);
        fallback = ExitCode::usage;
        const auto values = settings_map(settings);
        const std::string text = file.expand(values);
        const auto outputs = file.outputs(values);
        check_outputs(outputs);
        fallback = ExitCode::invalid;
        if (options.verbose)
            std::fprintf(stderr, "%s\n", text.c_str());
        options.name = file.name;
        catch_interrupts();
        const ExitCode code = run_pipeline(text, options);
        if (code == ExitCode::ok && !options.quiet)
            for (const auto& line : written_outputs(outputs))
                std::fprintf(stderr, "written: %s\n", line.c_str());
        return exit_code(code);
    } catch (const Error& error) {
        std::fprintf(stderr, "mri-launch: %s\n", error.what());
        if (options.verbose && !error.detail().empty())
            std::fprintf(stderr, "  %s\n", error.detail().c_str());
        return exit_code(error.code() == Errc::not_found ? ExitCode::usage : fallback);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "mri-launch: %s\n", error.what());
        return exit_code(fallback);
    }
}
