// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
//
// Xen's libraries are ten, and a machine without Xen has none of them: libxen.cc is a plugin,
// beside the program where that was built, and below lib/ where it is installed.
#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <stdexcept>

#include "tools/xen/host.h"

namespace vsnoop::xen {

std::unique_ptr<XenHost> open_host() {
  const std::filesystem::path folder =
      std::filesystem::read_symlink("/proc/self/exe").parent_path();
  std::filesystem::path plugin = folder / "vsnoop-xen.so";
  if (!exists(plugin)) plugin = folder.parent_path() / "lib/vsnoop/vsnoop-xen.so";
  if (!exists(plugin))
    throw std::runtime_error(fmt::format(
        "there is no {}: install the package vsnoop-xen, in a Xen driver domain", plugin.string()));
  // Never unloaded: what it returns is its code.
  void* library = dlopen(plugin.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* open = library ? dlsym(library, "vsnoop_open_xen_host") : nullptr;
  if (!open) throw std::runtime_error(dlerror());
  return std::unique_ptr<XenHost>(reinterpret_cast<decltype(&vsnoop_open_xen_host)>(open)());
}

}  // namespace vsnoop::xen
