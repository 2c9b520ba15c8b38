// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
#pragma once

#include "ns3/testbed-helper.h"

#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace ns3
{

/**
 * \ingroup vsnoop
 * \brief Rows of a tidy CSV file: one observation each, columns named in the first line.
 */
class CsvTable
{
  public:
    /**
     * \param path file to write; empty: standard output
     */
    explicit CsvTable(const std::string& path)
    {
        if (!path.empty())
        {
            m_file.open(path);
            NS_ABORT_MSG_UNLESS(m_file, "cannot write " << path);
        }
    }

    /// A value of the row that is being made.
    template <typename T>
    CsvTable& Put(const std::string& column, const T& value)
    {
        std::ostringstream text;
        text.precision(10);
        text << value;
        m_columns += (m_row.empty() ? "" : ",") + column;
        m_row += (m_row.empty() ? "" : ",") + text.str();
        return *this;
    }

    /// The row is complete.
    void EndRow()
    {
        std::ostream& out = m_file.is_open() ? m_file : std::cout;
        if (m_first)
        {
            out << m_columns << "\n";
            m_first = false;
        }
        out << m_row << std::endl;
        m_row.clear();
        m_columns.clear();
    }

  private:
    std::ofstream m_file;
    std::string m_columns;
    std::string m_row;
    bool m_first{true};
};

/**
 * \param list values with commas between
 * \returns the values
 */
inline std::vector<std::string>
SplitList(const std::string& list)
{
    std::vector<std::string> values;
    std::istringstream stream(list);
    for (std::string value; std::getline(stream, value, ',');)
    {
        values.push_back(value);
    }
    return values;
}

/// Columns that say what was simulated.
inline CsvTable&
PutSetting(CsvTable& table, const TestbedHelper& testbed)
{
    return table.Put("architecture", testbed.architecture)
        .Put("scheduler", testbed.scheduler)
        .Put("slice_ms", testbed.slice.GetMicroSeconds() / 1000.0)
        .Put("vms", testbed.vms)
        .Put("guest", testbed.guest)
        .Put("linger_us", testbed.linger.GetMicroSeconds())
        .Put("rate_mbps", testbed.rate.GetBitRate() / 1e6)
        .Put("congestion", testbed.congestion);
}

} // namespace ns3
